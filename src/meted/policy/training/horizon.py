"""All work done by a moment, at least cost: the makespan, and what waiting longer saves."""

from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import Plan, Snapshot
from meted.domain.units import JobName, Micros
from meted.policy.training.groups import Groups, group_jobs
from meted.policy.training.pick import STAY, horizon_program, pick, staying
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.program import LARGE
from meted.policy.training.room import make_room
from meted.policy.training.ways import Floats, Ways, make_ways

HOUR = 3_600_000_000
OVERRUN_USD = 1e4
"""An hour beyond the horizon costs more than any pool does."""
FIRST = 4.0
"""How much the share of the time that a job needs counts against the devices that it fills."""
TRACE = 1e-4
"""Part of a job's time below which what a way gets is a rest of the solver's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What is remembered: the moment by which all work is to be done, and for which jobs."""

    ends: Micros
    jobs: frozenset[JobName]


def least_hours(ways: Ways, seconds: float) -> float:
    """Hours in which all work can be done at best, jobs divisible in time but not in devices.

    Without an answer in time: those in which it can be done with the fewest device-hours.
    """
    return _least(ways, group_jobs(ways, lambda job: job.remaining_steps), seconds)


def _least(ways: Ways, groups: Groups, seconds: float) -> float:
    found = _solve(groups, 0.0, seconds)
    return _frugal_hours(ways) if found is None else float(found[-1])


def _solve(groups: Groups, hours: float, seconds: float) -> Floats | None:
    program = horizon_program(groups, hours, OVERRUN_USD)
    if len(program.cost) <= LARGE:
        return program.vertex(seconds)
    found = program.middle(seconds)
    if found is not None:
        spent = found[:-1]
        whole = groups.ways.sum_by_job(spent)[groups.ways.job]
        spent[spent < TRACE * whole] = 0.0
    return found


def _frugal_hours(ways: Ways) -> float:
    hours = ways.steps[ways.job] / ways.pace / 3600
    work = hours * ways.width
    least = work <= ways.least_by_job(work)[ways.job]
    _, first = np.unique(ways.job[least], return_index=True)
    chosen = np.flatnonzero(least)[first]
    used = np.bincount(ways.kind[chosen], work[chosen], len(ways.kinds))
    return float(max(hours[chosen].max(), (used / np.maximum(1.0, ways.capacity)).max()))


def decide_by(snapshot: Snapshot, *, factor: float, park: bool, name: str) -> Plan:
    """One decision: keep a horizon of `factor` times the least, and what costs least within it."""
    room = make_room(snapshot)
    ways = make_ways(snapshot.jobs, room, saved=True)
    if not len(ways.job):
        return make_plan(snapshot, room, (), park=park)
    groups = group_jobs(ways, lambda job: job.remaining_steps)
    horizon = _remembered(snapshot)
    if horizon is None:
        horizon = _horizon(snapshot, factor * _least(ways, groups, snapshot.solver_seconds))
    hours = max(0.0, (horizon.ends - snapshot.now) / HOUR)
    found = _solve(groups, hours, snapshot.solver_seconds)
    if found is None:
        spent, over = _cheapest_only(ways), 0.0
    else:
        spent, over = groups.spread(found[:-1]), float(found[-1])
    need = ways.sum_by_job(spent) / max(hours + over, 1e-9)
    value = _values(ways, spent, need) * (1 + STAY * staying(snapshot, ways))
    chosen = pick(ways, value, seconds=snapshot.solver_seconds)
    late = f"{over:.2f} h late" if over > 1e-6 else "in time"
    choices = [
        Choice(
            job=ways.jobs[int(ways.job[way])],
            option=ways.options[way],
            why=(
                f"{name}: all done in {hours + over:.2f} h, {late}; it needs "
                f"{need[ways.job[way]]:.0%} of that"
            ),
        )
        for way in chosen
    ]
    waits = {
        job.job: f"it needs {need[index]:.0%} of the {hours + over:.2f} h until all is to be done"
        for index, job in enumerate(ways.jobs)
    }
    return make_plan(snapshot, room, choices, waits=waits, memory=horizon, park=park)


def _values(ways: Ways, spent: Floats, need: Floats) -> Floats:
    """Full devices count, and those most that are needed for most of the time that is left."""
    wanted = spent > 1e-9
    share = spent / np.maximum(1e-12, ways.sum_by_job(spent)[ways.job])
    return np.where(wanted, ways.width * (1 + FIRST * need[ways.job] ** 2) * (0.9 + 0.1 * share), 0)


def _cheapest_only(ways: Ways) -> Floats:
    hours = ways.steps[ways.job] / ways.pace / 3600
    cost = hours * ways.dollars + 1e-9 * hours
    return np.where(cost <= ways.least_by_job(cost)[ways.job], hours, 0.0)


def _remembered(snapshot: Snapshot) -> Horizon | None:
    """The one in force, unless a job came that it does not know."""
    old = None if snapshot.previous is None else snapshot.previous.memory
    names = frozenset(job.job for job in snapshot.jobs)
    return old if isinstance(old, Horizon) and names <= old.jobs else None


def _horizon(snapshot: Snapshot, hours: float) -> Horizon:
    names = frozenset(job.job for job in snapshot.jobs)
    return Horizon(ends=Micros(snapshot.now + round(hours * HOUR)), jobs=names)
