"""Linear programs by their rows: HiGHS for a vertex, Clarabel for the middle of the optimum."""

from dataclasses import dataclass, field
from typing import Any, cast

import clarabel  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csc_array, csr_array, vstack

from meted.policy.training.ways import Floats

_clarabel = cast(Any, clarabel)
_linprog, _milp = cast(Any, linprog), cast(Any, milp)
GAP = 1e-4
"""Relative gap at which a mixed program is good enough."""
LARGE = 4096
"""Variables above which a program takes another way to its answer: a vertex, or whole numbers,
come too late."""


@dataclass(slots=True)
class Program:
    """Minimise `cost` @ x with rows `at most`, 0 <= x <= most."""

    cost: Floats
    most: Floats
    _rows: list[csr_array] = field(default_factory=list[csr_array])
    _limits: list[Floats] = field(default_factory=list[Floats])

    def at_most(self, rows: csr_array, limits: Floats) -> None:
        """rows @ x <= limits."""
        self._rows.append(rows)
        self._limits.append(limits)

    def at_least(self, rows: csr_array, limits: Floats) -> None:
        """rows @ x >= limits."""
        self.at_most(-rows, -limits)

    def vertex(self, seconds: float) -> Floats | None:
        """A vertex of the optimum by HiGHS; None if there is none, or the time is over."""
        result = _linprog(
            self.cost,
            A_ub=self._matrix(),
            b_ub=np.concatenate(self._limits),
            bounds=np.column_stack([np.zeros_like(self.most), self.most]),
            method="highs",
            options={"time_limit": seconds},
        )
        return None if result.x is None or result.status != 0 else np.asarray(result.x)

    def middle(self, seconds: float) -> Floats | None:
        """A point inside the optimum by Clarabel: equals get equal; None if there is none."""
        bounded = np.flatnonzero(np.isfinite(self.most))
        count = len(self.cost)
        unit = csr_array(
            (np.ones(len(bounded)), (np.arange(len(bounded)), bounded)),
            shape=(len(bounded), count),
        )
        everything = -csr_array(
            (np.ones(count), (np.arange(count), np.arange(count))), shape=(count, count)
        )
        rows = csc_array(vstack([self._matrix(), unit, everything]))
        limits = np.concatenate([*self._limits, self.most[bounded], np.zeros(count)])
        settings = _clarabel.DefaultSettings()
        settings.verbose = False
        settings.time_limit = seconds
        solver = _clarabel.DefaultSolver(
            csc_array((count, count)),
            self.cost,
            rows,
            limits,
            [_clarabel.NonnegativeConeT(len(limits))],
            settings,
        )
        solution = solver.solve()
        if str(solution.status) not in ("Solved", "AlmostSolved"):
            return None
        return np.clip(np.asarray(solution.x, dtype=np.float64), 0.0, self.most)

    def whole(self, whole: Floats, seconds: float) -> Floats | None:
        """With whole numbers where `whole` is 1: the best found within the time."""
        result = _milp(
            self.cost,
            integrality=whole,
            bounds=Bounds(np.zeros_like(self.most), self.most),
            constraints=LinearConstraint(
                self._matrix(), np.full(self._height(), -np.inf), np.concatenate(self._limits)
            ),
            options={"time_limit": seconds, "mip_rel_gap": GAP},
        )
        return None if result.x is None else np.asarray(result.x)

    def _height(self) -> int:
        return sum(len(one) for one in self._limits)

    def _matrix(self) -> csr_array:
        return csr_array(vstack(self._rows))


def rows_of(numbers: Any, values: Floats, *, height: int, width: int) -> csr_array:
    """One column for each value, in the row with its number; `width` columns, the rest empty."""
    return csr_array((values, (numbers, np.arange(len(values)))), shape=(height, width))
