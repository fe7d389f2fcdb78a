"""A line of jobs: whoever is in front takes the fastest way that has room."""

from collections.abc import Callable

from meted.domain.allocation import JobDemand
from meted.policy.training.ways import Ways

Rank = Callable[[JobDemand], tuple[float, ...]]
"""Where a job stands in the line, lowest first."""


def choose_in_line(ways: Ways, rank: Rank, *, overtake: bool) -> list[int]:
    """Ways by rank of their jobs.

    A job that cannot run on the kinds that are left lets others pass. overtake: so does one that is
    too wide for all of them; otherwise it ends the line.
    """
    left = ways.capacity.copy()
    mine: dict[int, list[int]] = {}
    owners: list[int] = ways.job.tolist()
    for way, job in enumerate(owners):
        mine.setdefault(job, []).append(way)
    chosen: list[int] = []
    for job in sorted(mine, key=lambda one: rank(ways.jobs[one])):
        fits = [way for way in mine[job] if ways.width[way] <= left[ways.kind[way]]]
        if fits:
            best = max(fits, key=lambda way: (ways.pace[way], -ways.dollars[way]))
            left[ways.kind[best]] -= ways.width[best]
            chosen.append(best)
        elif not overtake and left.max() < min(ways.width[way] for way in mine[job]):
            break
    return chosen
