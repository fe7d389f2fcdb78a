"""A mixed-integer linear program by its rows, solved by HiGHS."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

NODES = 50_000
"""Branches after which the best fleet so far is taken with its gap. A limit by time would make
equal wishes give unequal plans."""


class Status(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    LIMIT = "node limit"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """values: of the variables. bound: no solution costs less. gap: (cost - bound) / cost."""

    status: Status
    values: tuple[float, ...]
    cost: float
    bound: float

    @property
    def gap(self) -> float:
        return max(0.0, self.cost - self.bound) / self.cost if self.cost > 0 else 0.0


@dataclass(slots=True)
class Program:
    """Minimises the sum of cost * variable. Built row by row, then solved once."""

    _costs: list[float] = field(default_factory=list[float])
    _upper: list[float] = field(default_factory=list[float])
    _whole: list[int] = field(default_factory=list[int])
    _places: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])
    _bounds: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def variable(self, cost: float = 0.0, *, most: float = math.inf, whole: bool = False) -> int:
        """A variable from 0 to `most`, and its number."""
        self._costs.append(cost)
        self._upper.append(most)
        self._whole.append(int(whole))
        return len(self._costs) - 1

    def charge(self, variable: int, cost: float) -> None:
        """Makes one of the variable cost more."""
        self._costs[variable] += cost

    def limit_cost(self, most: float) -> None:
        """All that was charged so far may cost at most this."""
        self.row({number: cost for number, cost in enumerate(self._costs) if cost}, high=most)

    def row(
        self, terms: Mapping[int, float], *, low: float = -math.inf, high: float = math.inf
    ) -> None:
        """low <= sum of factor * variable <= high."""
        number = len(self._bounds)
        self._places.extend((number, variable, factor) for variable, factor in terms.items())
        self._bounds.append((low, high))

    def solve(self, *, relative_gap: float = 1e-5) -> Solved:
        """The optimum, within `relative_gap` unless the limit of branches comes first."""
        rows, columns, factors = zip(*self._places, strict=True)
        matrix = csr_array(
            (np.array(factors), (np.array(rows), np.array(columns))),
            shape=(len(self._bounds), len(self._costs)),
        )
        low, high = zip(*self._bounds, strict=True)
        found = cast(
            Any,
            milp(
                np.array(self._costs),
                integrality=np.array(self._whole),
                bounds=Bounds(0, np.array(self._upper)),  # pyright: ignore[reportArgumentType]
                constraints=LinearConstraint(matrix, np.array(low), np.array(high)),  # pyright: ignore
                options={"mip_rel_gap": relative_gap, "node_limit": NODES},
            ),
        )
        if found.x is None:
            if found.status == 2:
                return Solved(status=Status.INFEASIBLE, values=(), cost=math.inf, bound=math.inf)
            raise ArithmeticError(f"HiGHS stopped without a solution: {found.message}")
        cost = float(found.fun)
        bound = getattr(found, "mip_dual_bound", None)
        return Solved(
            status=Status.OPTIMAL if found.status == 0 else Status.LIMIT,
            values=tuple(float(one) for one in found.x),
            cost=cost,
            bound=cost if bound is None else min(cost, float(bound)),
        )
