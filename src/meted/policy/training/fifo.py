"""First come, first served: each job on the fastest devices that are left."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.policy.training.rounds import Rotation, rotate
from meted.policy.training.ways import Floats, Ways

Rank = Callable[[JobDemand], tuple[float, ...]]
"""Where a job stands in the line, lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FifoPolicy:
    """Jobs in the order in which they came; the first that finds no room ends the line.

    keep_seconds: time for which a decision stands. overtake: 1 lets later jobs that fit go before
    one that does not.
    """

    keep_seconds: float = 0.0
    overtake: float = 0.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_in_line(
            snapshot,
            lambda job: (job.order,),
            keep_seconds=self.keep_seconds,
            overtake=bool(self.overtake),
            told="in the order of arrival",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityPolicy:
    """Jobs by priority, equal ones in the order in which they came.

    keep_seconds: time for which a decision stands. overtake: 1 lets jobs that fit go before one of
    higher priority that does not.
    """

    keep_seconds: float = 0.0
    overtake: float = 1.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_in_line(
            snapshot,
            lambda job: (-job.priority, job.order),
            keep_seconds=self.keep_seconds,
            overtake=bool(self.overtake),
            told="by priority",
        )


def decide_in_line(
    snapshot: Snapshot,
    rank: Rank,
    *,
    keep_seconds: float,
    overtake: bool,
    told: str,
) -> Plan:
    """Serve a line: whoever is in front takes the fastest way that has room."""
    places = {job.job: place for place, job in enumerate(sorted(snapshot.jobs, key=rank), start=1)}

    def wanted(ways: Ways) -> Floats:
        return _line(ways, rank, overtake=overtake)

    return rotate(
        snapshot,
        Rotation(keep_seconds=keep_seconds, backfill=False),
        wanted,
        why=lambda ways, values: f"{told}, one of {len(places)} jobs",
    )


def _line(ways: Ways, rank: Rank, *, overtake: bool) -> Floats:
    shares = np.zeros(len(ways.job))
    left = ways.capacity.copy()
    mine: dict[int, list[int]] = {}
    for way, job in enumerate(ways.job):
        mine.setdefault(int(job), []).append(way)
    for job in sorted(mine, key=lambda one: rank(ways.jobs[one])):
        fits = [way for way in mine[job] if ways.width[way] <= left[ways.kind[way]]]
        if fits:
            best = max(fits, key=lambda way: (ways.pace[way], -ways.dollars[way]))
            shares[best] = 1.0
            left[ways.kind[best]] -= ways.width[best]
        elif not overtake:
            break
    return shares
