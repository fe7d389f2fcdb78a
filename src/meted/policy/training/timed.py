"""Who runs on what, and in which part of the future: a linear program over a grid of time.

Jobs are divisible in time; a deadline that cannot be kept costs its job alone, in proportion to the
work that comes too late. What ends earlier is worth money: the mean time of a job's work
(Schulz and Skutella 2002) stands for its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csr_array

from meted.policy.training.program import Program
from meted.policy.training.ways import Floats, Ways

HOUR = 3_600_000_000
GRID = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Hours from now; deadlines come between them."""
EXACT = 5
"""Deadlines that are ends of parts by themselves, the soonest first; later ones by quantiles."""
MORE = 4
VARIABLES = 40_000
"""Above this there are fewer parts."""
LATE_USD = 100.0
"""What a job of weight 1 costs whose work is all late; more than any choice of devices saves."""


@dataclass(frozen=True, slots=True)
class Timed:
    """hours: by way and part of the grid. lengths: of the parts. late: share of each job's work
    that comes after its deadline.
    """

    hours: Floats
    lengths: Floats
    late: Floats


def grid_of(deadlines: Sequence[float], *, most: int) -> Floats:
    """Ends of the parts, in hours from now. deadlines: hours from now, those to come."""
    soon = sorted({max(0.05, round(one, 3)) for one in deadlines})
    exact = soon[:EXACT]
    later = soon[EXACT:]
    ends = np.unique(np.concatenate([np.array(GRID), np.array(exact)]))
    if later:
        some = np.quantile(later, np.linspace(0, 1, min(MORE, len(later))))
        ends = np.unique(np.concatenate([ends, some]))
    keep = [ends[0]]
    for end in ends[1:]:
        if end - keep[-1] >= 0.04:
            keep.append(end)
    while len(keep) > max(3, most):
        del keep[len(keep) // 2]
    return np.array(keep)


def solve_timed(
    ways: Ways, deadlines: Floats, *, ends: Floats, usd_per_hour: Floats, seconds: float
) -> Timed | None:
    """At least cost: devices, waiting at `usd_per_hour` by job, and work after a deadline.

    deadlines: by job, hours from now, inf for none. ends: of the parts; a last one without an end
    and without a limit of devices follows, in which work counts as done very late. None: no answer
    in time.
    """
    count, jobs, kinds = len(ways.job), len(ways.jobs), len(ways.kinds)
    begins = np.concatenate([[0.0], ends])
    lengths = np.append(np.diff(begins), 10_000.0)
    parts = len(lengths)
    middles = np.append((begins[:-1] + begins[1:]) / 2, ends[-1] * 2)
    progress = ways.pace * 3600 / ways.steps[ways.job]
    dated = np.flatnonzero(np.isfinite(deadlines))
    width = count * parts + len(dated)
    way, part = np.divmod(np.arange(count * parts), parts)
    job = ways.job[way]
    weights = ways.weights
    cost = ways.dollars[way] + (usd_per_hour * weights)[job] * progress[way] * middles[part]
    spent = (usd_per_hour * weights)[ways.job] * 0.5
    cost = cost + spent[way] + 1e-6
    program = Program(
        cost=np.concatenate([cost, LATE_USD * weights[dated]]),
        most=np.concatenate([lengths[part], np.ones(len(dated))]),
    )
    column = np.arange(count * parts)
    program.at_most(
        _matrix(np.ones(len(column)), job * parts + part, column, jobs * parts, width),
        np.tile(lengths, jobs),
    )
    limited = part < parts - 1
    program.at_most(
        _matrix(
            ways.width[way][limited],
            (ways.kind[way] * (parts - 1) + part)[limited],
            column[limited],
            kinds * (parts - 1),
            width,
        ),
        (ways.capacity[:, None] * lengths[None, :-1]).ravel(),
    )
    able = np.unique(ways.job)
    work = _matrix(progress[way], job, column, jobs, width)
    program.at_least(work[able], np.ones(len(able)))
    if len(dated):
        inside = np.clip((deadlines[job] - begins[part]) / lengths[part], 0.0, 1.0)
        number = np.full(jobs, -1)
        number[dated] = np.arange(len(dated))
        mine = (number[job] >= 0) & (inside > 0)
        rows = np.concatenate([number[job][mine], np.arange(len(dated))])
        columns = np.concatenate([column[mine], count * parts + np.arange(len(dated))])
        values = np.concatenate([(progress[way] * inside)[mine], np.ones(len(dated))])
        program.at_least(_matrix(values, rows, columns, len(dated), width), np.ones(len(dated)))
    found = program.vertex(seconds)
    if found is None:
        return None
    late = np.zeros(jobs)
    late[dated] = found[count * parts :]
    return Timed(hours=found[: count * parts].reshape(count, parts), lengths=lengths, late=late)


def _matrix(values: Floats, rows: Any, columns: Any, height: int, width: int) -> csr_array:
    return csr_array(coo_array((values, (rows, columns)), shape=(height, width)))
