"""Equal jobs are one row: what a solver needs grows with kinds of jobs, not with jobs."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import JobDemand
from meted.policy.training.ways import Floats, Ints, Ways


@dataclass(frozen=True, slots=True)
class Groups:
    """ways: of one job of each group. count: jobs by group. of: each way's row in `ways`.

    group: by job. Every job of a group gets the same.
    """

    ways: Ways
    count: Floats
    of: Ints
    group: Ints

    def spread(self, values: Floats) -> Floats:
        """From a value by way of a group to one by way of each job."""
        return values[self.of]

    @property
    def devices(self) -> Floats:
        """Devices that all jobs of a group take together, by way."""
        return self.ways.width * self.count[self.ways.job]


def group_jobs(ways: Ways, key: Callable[[JobDemand], Hashable]) -> Groups:
    """Jobs of equal keys and equal options in the order of the first of each."""
    numbers: dict[Hashable, int] = {}
    group = np.array(
        [numbers.setdefault((key(job), job.options), len(numbers)) for job in ways.jobs],
        dtype=np.int64,
    )
    count = np.bincount(group, minlength=len(numbers)).astype(np.float64)
    first = np.full(len(numbers), -1, dtype=np.int64)
    first[group[::-1]] = np.arange(len(ways.jobs), dtype=np.int64)[::-1]
    chosen = np.flatnonzero(first[group[ways.job]] == ways.job)
    begins = np.searchsorted(ways.job, np.arange(len(ways.jobs)))
    place = np.arange(len(ways.job)) - begins[ways.job]
    leaders = ways.job[chosen]
    leader_begins = np.searchsorted(leaders, first)
    return Groups(
        ways=Ways(
            jobs=tuple(ways.jobs[index] for index in first),
            options=tuple(ways.options[index] for index in chosen),
            kinds=ways.kinds,
            capacity=ways.capacity,
            job=group[leaders],
            kind=ways.kind[chosen],
            width=ways.width[chosen],
            pace=ways.pace[chosen],
            dollars=ways.dollars[chosen],
        ),
        count=count,
        of=(leader_begins[group[ways.job]] + place).astype(np.int64),
        group=group,
    )
