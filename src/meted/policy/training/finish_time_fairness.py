"""Finish-time fairness: nobody ends much later than alone on an equal part of the pool.

rho of a job is its expected time from arrival to end, divided by the time that it would take on its
part of the pool, shared equally among the jobs of now (Mahajan et al. 2020, Themis).
"""

from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND
from meted.policy.training.groups import group_jobs
from meted.policy.training.max_min import equal_parts, fair_paces, largest_least
from meted.policy.training.rounds import Rotation, rotate
from meted.policy.training.ways import Floats, Ways

HALVINGS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTimeFairnessPolicy:
    """The largest rho as small as can be. keep_seconds: shares stand for at least so long."""

    keep_seconds: float = 0.0
    round_seconds: float = 360.0

    def decide(self, snapshot: Snapshot) -> Plan:
        now = np.array([(snapshot.now - job.arrived) for job in snapshot.jobs])
        waited = now / MICROS_PER_SECOND

        def wanted(ways: Ways) -> Floats:
            return finish_time_shares(ways, waited, seconds=snapshot.solver_seconds)

        def why(ways: Ways, shares: Floats) -> str:
            rho = float(_rho(ways, shares, waited).max(initial=0.0))
            return f"the largest rho of {len(ways.jobs)} jobs is {rho:.3g}"

        return rotate(
            snapshot,
            Rotation(round_seconds=self.round_seconds, keep_seconds=self.keep_seconds),
            wanted,
            why=why,
        )


def isolated_seconds(ways: Ways) -> Floats:
    """By job: its whole work on an equal part of the pool; inf for a job without a way."""
    width = np.maximum(1.0, ways.best_by_job(ways.width))
    part = np.minimum(1.0, ways.capacity.sum() / max(1, len(ways.jobs)) / width)
    pace = fair_paces(ways) * part
    whole = np.array([max(job.total_steps, job.remaining_steps) for job in ways.jobs])
    return np.divide(whole, pace, out=np.full(len(ways.jobs), np.inf), where=pace > 0)


def _rho(ways: Ways, shares: Floats, waited: Floats) -> Floats:
    pace = ways.sum_by_job(shares * ways.pace)
    left = np.divide(ways.steps, pace, out=np.full(len(pace), np.inf), where=pace > 0)
    alone = isolated_seconds(ways)
    able = np.isfinite(alone) & np.isfinite(left)
    return np.where(able, (waited + left) / np.where(able, alone, 1.0), 0.0)


def finish_time_shares(ways: Ways, waited: Floats, *, seconds: float) -> Floats:
    """Shares by way with the smallest largest rho, by halving. waited: seconds since arrival."""
    alone = isolated_seconds(ways)
    known = np.isfinite(alone)
    if not known.any():
        return np.zeros(len(ways.job))
    groups = group_jobs(ways, lambda job: job.job)
    low = float((waited[known] / alone[known]).max())
    high = max(1.0, 2 * low)
    best = groups.spread(equal_parts(groups))
    high = max(high, float(_rho(ways, best, waited).max()) + 1e-6)
    for _ in range(HALVINGS):
        rho = (low + high) / 2
        left = rho * alone * ways.weights**-1.0 - waited
        needed = np.where(known & (left > 0), ways.steps / np.where(left > 0, left, 1.0), np.inf)
        worth = np.where(np.isfinite(needed), 1.0 / np.where(needed > 0, needed, 1.0), 0.0)
        shares = largest_least(groups, ways.pace * worth[ways.job], seconds / HALVINGS)
        reached = ways.sum_by_job(shares * ways.pace * worth[ways.job])
        if (left[known] > 0).all() and (reached[known] >= 1 - 1e-6).all():
            high, best = rho, groups.spread(shares)
        else:
            low = rho
    return best
