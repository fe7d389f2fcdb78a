"""The largest sum of progress, per device or per dollar."""

from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.groups import group_jobs
from meted.policy.training.max_min import base_program, equal_parts
from meted.policy.training.rounds import Rotation, rotate
from meted.policy.training.ways import Floats, Ways


@dataclass(frozen=True, slots=True, kw_only=True)
class SumThroughputPolicy:
    """Every job counts by its pace divided by its best pace, and by its weight.

    by_price: 1 divides each way's worth by what it costs an hour.
    """

    by_price: float = 1.0
    keep_seconds: float = 0.0
    round_seconds: float = 360.0

    def decide(self, snapshot: Snapshot) -> Plan:
        def wanted(ways: Ways) -> Floats:
            return sum_shares(ways, by_price=bool(self.by_price), seconds=snapshot.solver_seconds)

        return rotate(
            snapshot,
            Rotation(round_seconds=self.round_seconds, keep_seconds=self.keep_seconds),
            wanted,
            why=lambda ways, shares: f"{_progress(ways, shares):.2f} best paces in sum",
        )


def _progress(ways: Ways, shares: Floats) -> float:
    return float((shares * ways.pace / ways.best_by_job(ways.pace)[ways.job]).sum())


def sum_shares(ways: Ways, *, by_price: bool, seconds: float) -> Floats:
    """Share of the time by way: the largest sum of weight * pace / best pace [/ dollars]."""
    groups = group_jobs(ways, lambda job: job.weight)
    some = groups.ways
    worth = some.weights[some.job] * some.pace / some.best_by_job(some.pace)[some.job]
    if by_price and (some.dollars > 0).all():
        worth = worth / some.dollars
    program = base_program(groups)
    program.cost[:] = -worth * groups.count[some.job] / np.maximum(1e-12, worth.max(initial=0.0))
    found = program.vertex(seconds)
    return groups.spread(equal_parts(groups) if found is None else found)
