"""Jobs that run on any number of devices, with a fixed batch or one that follows goodput."""

import math
from bisect import bisect_right
from dataclasses import dataclass

from meted.domain.allocation import JobOption
from meted.predict.training.elastic import Batch, ElasticProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticJob:
    """A job by measured profiles; a step is one with the initial batch.

    counts: numbers of devices on which it may run. batch: its fixed total batch; None: the batch
    with the most goodput by the fitted model, chosen anew in each epoch.
    """

    profile: ElasticProfile
    kind: str
    counts: tuple[int, ...]
    batch: int | None = None

    @property
    def steps(self) -> float:
        """Steps until all epochs are done."""
        return self.profile.ends[-1]

    def options(self, done: float) -> tuple[JobOption, ...]:
        found: list[JobOption] = []
        for devices in self.counts:
            nodes = math.ceil(devices / self.profile.node_devices)
            split, pace = self._chosen(devices, nodes, self._epoch(done))
            if split.local >= 1 and pace > 0:
                found.append(JobOption(kind=self.kind, devices=devices, steps_per_second=pace))
        return tuple(found)

    def steps_per_second(self, done: float, *, kind: str, devices: int, nodes: int) -> float:
        epoch = self._epoch(done)
        split, _ = self._chosen(devices, nodes, epoch)
        return self.profile.pace(devices, nodes, epoch, split)

    def steady_until(self, done: float) -> float:
        ends = self.profile.ends
        place = bisect_right(ends, done)
        return ends[place] if place < len(ends) else math.inf

    def _epoch(self, done: float) -> int:
        ends = self.profile.ends
        return min(bisect_right(ends, done), len(ends) - 1)

    def _chosen(self, devices: int, nodes: int, epoch: int) -> tuple[Batch, float]:
        if self.batch is None:
            return self.profile.choose(devices, nodes, epoch)
        split = self.profile.split(self.batch, devices)
        if split.local < 1:
            return split, 0.0
        return split, self.profile.pace(devices, nodes, epoch, split)
