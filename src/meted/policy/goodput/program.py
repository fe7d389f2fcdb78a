"""At most one option per job, no more devices of a kind than there are, the most value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.optimize import (  # pyright: ignore[reportMissingTypeStubs]
    Bounds,
    LinearConstraint,
    linprog,
    milp,
)
from scipy.sparse import csr_matrix  # pyright: ignore[reportMissingTypeStubs]

GAP = 0.01
"""Share of the bound that rounding may lose before the integer program is solved."""
LARGE = 4096
"""Columns above which an interior point with crossover takes less time than the simplex."""


@dataclass(frozen=True, slots=True)
class Column:
    """One option of one job. value: what is won over giving it nothing."""

    job: int
    kind: str
    devices: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Chosen columns; value: their sum; bound: no choice has more (of the LP relaxation)."""

    chosen: tuple[int, ...]
    value: float
    bound: float

    @property
    def gap(self) -> float:
        return 0.0 if self.bound <= 0 else max(0.0, 1 - self.value / self.bound)


def solve(
    columns: Sequence[Column], room: Mapping[str, int], *, seconds: float, gap: float = GAP
) -> Solution:
    """LP relaxation, rounded; the integer program only if that loses more than `gap`."""
    if not columns:
        return Solution(chosen=(), value=0.0, bound=0.0)
    values = np.array([one.value for one in columns])
    matrix, limits = _matrix(columns, room)
    relaxed: Any = linprog(
        -values,
        A_ub=cast(Any, matrix),
        b_ub=limits,
        bounds=(0, 1),
        method="highs-ipm" if len(columns) > LARGE else "highs-ds",
    )
    bound = float(-relaxed.fun)
    rounded = _round(columns, room, relaxed.x)
    value = float(sum(values[one] for one in rounded))
    if bound > 0 and 1 - value / bound > gap:
        exact: Any = milp(
            -values,
            constraints=LinearConstraint(matrix, -np.inf, limits),
            integrality=np.ones(len(columns), dtype=np.int64),
            bounds=Bounds(0, 1),
            options={"time_limit": max(0.05, seconds), "mip_rel_gap": gap / 10},
        )
        if exact.x is not None and float(-exact.fun) > value:
            rounded = tuple(int(one) for one in np.flatnonzero(exact.x > 0.5))
            value = float(sum(values[one] for one in rounded))
    return Solution(chosen=rounded, value=value, bound=bound)


def _matrix(columns: Sequence[Column], room: Mapping[str, int]):
    jobs = 1 + max(one.job for one in columns)
    kinds = {kind: jobs + number for number, kind in enumerate(room)}
    count = len(columns)
    rows = [one.job for one in columns] + [kinds[one.kind] for one in columns]
    entries = [1.0] * count + [float(one.devices) for one in columns]
    matrix = csr_matrix((entries, (rows, list(range(count)) * 2)), shape=(jobs + len(kinds), count))
    return matrix, np.array([1.0] * jobs + [float(one) for one in room.values()])


def _round(
    columns: Sequence[Column], room: Mapping[str, int], shares: np.ndarray
) -> tuple[int, ...]:
    """Largest shares first where they fit; then the best exchange per device, while one helps."""
    left = dict(room)
    chosen: dict[int, int] = {}
    for place in np.argsort(-shares, kind="stable"):
        one = columns[int(place)]
        if shares[place] < 1e-6:
            break
        if one.job not in chosen and one.devices <= left[one.kind] and one.value > 0:
            chosen[one.job] = int(place)
            left[one.kind] -= one.devices
    job = np.array([one.job for one in columns])
    devices = np.array([one.devices for one in columns], dtype=float)
    values = np.array([one.value for one in columns])
    names = {kind: number for number, kind in enumerate(room)}
    kinds = np.array([names[one.kind] for one in columns])
    free = np.array([float(left[kind]) for kind in room])
    held = np.full(int(job.max()) + 1, -1)
    for number, place in chosen.items():
        held[number] = place
    while True:
        now = held[job]
        same = (now >= 0) & (kinds[now] == kinds)
        extra = devices - np.where(same, devices[now], 0.0)
        gain = values - np.where(now >= 0, values[now], 0.0)
        rate = np.where(
            (gain > 1e-12) & (extra <= free[kinds]), gain / np.maximum(0.5, extra), -1.0
        )
        best = int(np.argmax(rate))
        if rate[best] <= 0:
            return tuple(int(one) for one in np.sort(held[held >= 0]))
        if now[best] >= 0:
            free[kinds[now[best]]] += devices[now[best]]
        held[job[best]] = best
        free[kinds[best]] -= devices[best]
