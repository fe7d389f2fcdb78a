"""Jobs and what they can run on, as arrays that a solver takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meted.domain.allocation import JobDemand, JobOption
from meted.policy.training.room import Room

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """One row for each way to run a job that the room allows, in the order of the jobs.

    kinds: of devices. capacity: devices by kind. By way: job, kind: their numbers; width: devices;
    pace: steps/s; dollars: US dollars an hour, more than if its devices were unused.
    """

    jobs: tuple[JobDemand, ...]
    options: tuple[JobOption, ...]
    kinds: tuple[str, ...]
    capacity: Floats
    job: Ints
    kind: Ints
    width: Floats
    pace: Floats
    dollars: Floats

    @property
    def steps(self) -> Floats:
        """Steps that are left, by job."""
        return np.array([job.remaining_steps for job in self.jobs], dtype=np.float64)

    @property
    def weights(self) -> Floats:
        """The jobs' weights, kept above 0 so that a share is always defined."""
        return np.maximum(1e-9, np.array([job.weight for job in self.jobs], dtype=np.float64))

    @property
    def pairs(self) -> list[tuple[JobDemand, JobOption]]:
        """Each way's job and option."""
        owners: list[int] = self.job.tolist()
        return [(self.jobs[job], option) for job, option in zip(owners, self.options, strict=True)]

    def sum_by_job(self, values: Floats) -> Floats:
        total = np.zeros(len(self.jobs))
        np.add.at(total, self.job, values)
        return total

    def sum_by_kind(self, values: Floats) -> Floats:
        total = np.zeros(len(self.kinds))
        np.add.at(total, self.kind, values)
        return total

    def best_by_job(self, values: Floats) -> Floats:
        """The largest of a value over the ways of each job; -inf for a job without a way."""
        best = np.full(len(self.jobs), -np.inf)
        np.maximum.at(best, self.job, values)
        return best

    def least_by_job(self, values: Floats) -> Floats:
        """The smallest of a value over the ways of each job; inf for a job without a way."""
        return -self.best_by_job(-values)


def make_ways(jobs: tuple[JobDemand, ...], room: Room, *, saved: bool = False) -> Ways:
    """All ways that fit into the room at all. saved: price what is saved by not using a device."""
    kinds = tuple(room.devices)
    number = {kind: index for index, kind in enumerate(kinds)}
    rows = [
        (index, option)
        for index, job in enumerate(jobs)
        for option in job.options
        if option.steps_per_second > 0 and 0 < option.devices <= room.devices.get(option.kind, 0)
    ]
    prices = room.saved if saved else room.dollars
    return Ways(
        jobs=jobs,
        options=tuple(option for _, option in rows),
        kinds=kinds,
        capacity=np.array([room.devices[kind] for kind in kinds], dtype=np.float64),
        job=np.array([index for index, _ in rows], dtype=np.int64),
        kind=np.array([number[option.kind] for _, option in rows], dtype=np.int64),
        width=np.array([option.devices for _, option in rows], dtype=np.float64),
        pace=np.array([option.steps_per_second for _, option in rows], dtype=np.float64),
        dollars=np.array(
            [option.devices * prices[option.kind] for _, option in rows], dtype=np.float64
        ),
    )
