"""Which ways run now: the most valuable set of whole ways that fits, by a small mixed program."""

import numpy as np
from scipy.sparse import csr_array, hstack

from meted.domain.allocation import Snapshot
from meted.policy.training.groups import Groups
from meted.policy.training.program import LARGE, Program, rows_of
from meted.policy.training.ways import Floats, Ints, Ways

STAY = 1e-3
"""Part of the largest value by which a job prefers the way that it has."""


def staying(snapshot: Snapshot, ways: Ways) -> Floats:
    """1 for each way that its job has now."""
    if snapshot.previous is None:
        return np.zeros(len(ways.job))
    kinds = {device.index: device.kind for device in snapshot.pool.devices}
    has = {
        one.job: (kinds[one.devices[0]], len(one.devices))
        for one in snapshot.previous.jobs
        if one.devices and one.devices[0] in kinds
    }
    return np.array(
        [float(has.get(job.job) == (option.kind, option.devices)) for job, option in ways.pairs]
    )


def pick(ways: Ways, value: Floats, *, seconds: float) -> list[int]:
    """Ways with the largest sum of values, at most one a job; only those of positive value.

    A large program is relaxed and rounded: where jobs are many, hardly one is split, at most one
    for each kind. Without an answer in time: the most valuable device first.
    """
    some = np.flatnonzero(value > 0)
    best = _best(ways, value, some)
    if (
        ways.sum_by_kind(np.where(np.isin(np.arange(len(value)), best), ways.width, 0.0))
        <= ways.capacity
    ).all():
        return best
    program = Program(cost=-value[some] / value[some].max(), most=np.ones(len(some)))
    jobs, kinds = len(ways.jobs), len(ways.kinds)
    program.at_most(
        rows_of(ways.job[some], np.ones(len(some)), height=jobs, width=len(some)), np.ones(jobs)
    )
    program.at_most(
        rows_of(ways.kind[some], ways.width[some], height=kinds, width=len(some)), ways.capacity
    )
    dense = -(value / ways.width)[some]
    if len(some) > LARGE:
        relaxed = program.vertex(seconds)
        split = np.zeros(len(some)) if relaxed is None else relaxed
        return _fill(ways, some[np.lexsort((dense, -split))])
    found = program.whole(np.ones(len(some)), seconds)
    if found is not None:
        return [int(way) for way in some[found > 0.5]]
    return _fill(ways, some[np.argsort(dense, kind="stable")])


def _best(ways: Ways, value: Floats, some: Ints) -> list[int]:
    """The most valuable way of each job, the first of equal ones, whether they fit or not."""
    first = some[np.lexsort((some, -value[some], ways.job[some]))]
    _, begins = np.unique(ways.job[first], return_index=True)
    return sorted(first[begins].tolist())


def _fill(ways: Ways, order: Ints) -> list[int]:
    """Ways in this order while they fit, one a job."""
    left: list[float] = ways.capacity.tolist()
    done: set[int] = set()
    chosen: list[int] = []
    rows = (order, ways.job[order], ways.kind[order], ways.width[order])
    for way, job, kind, width in zip(*(row.tolist() for row in rows), strict=True):
        if job not in done and width <= left[kind]:
            left[kind] -= width
            done.add(job)
            chosen.append(way)
    return sorted(chosen)


def horizon_program(groups: Groups, hours: float, overrun_usd: float) -> Program:
    """Hours by way until all work is done, at least cost, if possible within `hours`.

    The last variable is by how much that takes longer; an hour of it costs `overrun_usd`.
    """
    ways = groups.ways
    count, jobs, kinds = len(ways.job), len(ways.jobs), len(ways.kinds)
    width = count + 1
    weight = ways.dollars * groups.count[ways.job]
    program = Program(cost=np.append(weight + 1e-9, overrun_usd), most=np.full(width, np.inf))
    able = np.unique(ways.job)
    everybody, every_kind = np.full((len(able), 1), -1.0), -ways.capacity[:, None]
    of_job = rows_of(ways.job, np.ones(count), height=jobs, width=count)[able]
    program.at_most(csr_array(hstack([of_job, csr_array(everybody)])), np.full(len(able), hours))
    of_kind = rows_of(ways.kind, groups.devices, height=kinds, width=count)
    program.at_most(csr_array(hstack([of_kind, csr_array(every_kind)])), ways.capacity * hours)
    progress = ways.pace * 3600.0 / ways.steps[ways.job]
    work = rows_of(ways.job, progress, height=jobs, width=width)
    program.at_least(work[able], np.ones(len(able)))
    return program
