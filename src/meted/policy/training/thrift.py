"""Deadlines first, then money against waiting: one decision over a grid of time."""

import numpy as np

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.policy.training.pick import STAY, pick, staying
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.room import make_room
from meted.policy.training.timed import HOUR, VARIABLES, Timed, grid_of, solve_timed
from meted.policy.training.ways import Floats, Ways, make_ways

LIMITS = (0.5, 0.02)
"""Share of late work from which on a deadline counts as lost: first those that lose most."""
NEAR = (1.0, 0.3, 0.1)
"""How much the first parts of the future count when devices are handed out now."""
SLACK = 0.3
"""Hours of slack at which a job goes before all that have more."""
URGENT = 10.0
"""How much it counts then, in devices."""
MARGIN = 0.15
"""Hours by which a job is to end before its deadline, or half of its slack: devices come whole."""
TIGHT = 3.0
"""How much more a job counts that needs all the time until its deadline."""


def decide_thriftily(snapshot: Snapshot, *, usd_per_hour: float, park: bool, name: str) -> Plan:
    """usd_per_hour: what an hour until the end of a job of weight 1 is worth."""
    room = make_room(snapshot)
    ways = make_ways(snapshot.jobs, room, saved=True)
    if not len(ways.job):
        return make_plan(snapshot, room, (), park=park)
    deadlines = _deadlines(snapshot, ways)
    kept, timed = _solve(snapshot, ways, deadlines, usd_per_hour)
    value = _greedy(ways) if timed is None else _value(ways, kept, timed)
    value = value * (1 + STAY * staying(snapshot, ways))
    chosen = pick(ways, value, seconds=snapshot.solver_seconds)
    hopes = int(np.isfinite(deadlines).sum())
    told = f"{name}: {int(np.isfinite(kept).sum())} of {hopes} deadlines can be kept"
    due = [
        f"{told}, {_due(job, snapshot, float(limit))}"
        for job, limit in zip(ways.jobs, kept, strict=True)
    ]
    choices = [
        Choice(
            job=ways.jobs[int(ways.job[way])],
            option=ways.options[way],
            why=due[int(ways.job[way])],
        )
        for way in chosen
    ]
    waits = {
        job.job: f"{reason}; an hour of it is worth ${usd_per_hour * job.weight:.2f}"
        for job, reason in zip(ways.jobs, due, strict=True)
    }
    return make_plan(snapshot, room, choices, waits=waits, park=park)


def _due(job: JobDemand, snapshot: Snapshot, kept: float) -> str:
    if job.deadline is None:
        return f"0 deadlines are its own, {job.remaining_steps} steps left"
    hours = (job.deadline - snapshot.now) / HOUR
    if np.isfinite(kept):
        return f"its own in {hours:.2f} h"
    return f"its own in {hours:.2f} h is lost"


def _deadlines(snapshot: Snapshot, ways: Ways) -> Floats:
    """By job, hours from now; inf for none."""
    return np.array(
        [
            np.inf if job.deadline is None else (job.deadline - snapshot.now) / HOUR
            for job in ways.jobs
        ]
    )


def _solve(
    snapshot: Snapshot, ways: Ways, deadlines: Floats, usd_per_hour: float
) -> tuple[Floats, Timed | None]:
    """Deadlines that can be kept, and the plan that keeps them; others do not count any more."""
    least = np.full(len(ways.jobs), np.inf)
    np.minimum.at(least, ways.job, ways.steps[ways.job] / ways.pace / 3600)
    restart = np.array([0 if job.running else job.restart for job in ways.jobs]) / HOUR
    kept = np.where(least + restart <= deadlines + 1e-6, deadlines, np.inf)
    slack = np.subtract(kept, least, out=np.zeros(len(kept)), where=np.isfinite(kept))
    kept = kept - np.minimum(MARGIN, slack / 2)
    worth = np.full(len(ways.jobs), usd_per_hour)
    most = max(3, VARIABLES // len(ways.job))
    timed: Timed | None = None
    for limit in LIMITS:
        ends = grid_of([one for one in kept if np.isfinite(one)], most=most)
        timed = solve_timed(
            ways, kept, ends=ends, usd_per_hour=worth, seconds=snapshot.solver_seconds
        )
        if timed is None or not (lost := timed.late > limit).any():
            break
        kept = np.where(lost, np.inf, kept)
    return kept, timed


def _value(ways: Ways, kept: Floats, timed: Timed) -> Floats:
    """What the plan does in the first part of the grid, and next; tight deadlines count more."""
    parts = min(len(NEAR), timed.hours.shape[1])
    soon = (timed.hours[:, :parts] / timed.lengths[:parts]) @ np.array(NEAR[:parts])
    least = np.full(len(ways.jobs), np.inf)
    np.minimum.at(least, ways.job, ways.steps[ways.job] / ways.pace / 3600)
    tight = np.divide(
        least, np.maximum(kept, 1e-6), out=np.zeros(len(kept)), where=np.isfinite(kept)
    )
    slack = np.subtract(kept, least, out=np.full(len(kept), np.inf), where=np.isfinite(kept))
    now = slack < SLACK
    calm = ways.width * soon * (1 + TIGHT * tight[ways.job] ** 2)
    return calm + URGENT * ways.best_by_job(ways.width)[ways.job] * now[ways.job] * (soon > 1e-6)


def _greedy(ways: Ways) -> Floats:
    """Without a plan: what ends soonest."""
    return ways.pace / ways.steps[ways.job]
