"""Looks at a running comparison, planned ahead so that looking often finds nothing by chance.

The error that may be made is spent over the looks as by O'Brien and Fleming: little early, most at
the end (Lan and DeMets 1983). Bounds come from the recursion of Armitage, McPherson and Rowe
(1969); with few pairs they are turned into Student's by their probability (Jennison and Turnbull
2000, 11.5.1), which the tests check by simulation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from meted.optimise.quantiles import normal_below, normal_quantile, student_quantile

Numbers: TypeAlias = NDArray[np.float64]

_GRID = 801
_FAR = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """When to look. at: numbers of pairs, rising; the last is the end of the comparison.

    level: of the intervals at all looks together: with this probability each of them is right.
    """

    at: tuple[int, ...]
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.at or list(self.at) != sorted(set(self.at)) or self.at[0] < 2:
            raise ValueError(
                f"looks are at {self.at} pairs, expected rising numbers from 2 pairs on"
            )
        if not 0.5 < self.level < 1:
            raise ValueError(f"level is {self.level}, expected between 0.5 and 1")

    def level_at(self, pairs: int) -> float:
        """The level of the interval at one look (two-sided), above `level` as looks share it."""
        if pairs not in self.at:
            raise ValueError(f"{pairs} pairs is no planned look, expected one of {self.at}")
        fractions = tuple(one / self.at[-1] for one in self.at)
        bound = boundaries(fractions, (1 - self.level) / 2)[self.at.index(pairs)]
        return 2 * normal_below(bound) - 1

    def quantile(self, pairs: int) -> float:
        """How many standard errors the interval at a look reaches to either side."""
        return student_quantile(0.5 + self.level_at(pairs) / 2, pairs - 1)


def planned(pairs: int, *, looks: int = 4, first: int = 6, level: float = 0.95) -> Looks:
    """`looks` looks in even steps up to `pairs`, none before `first` pairs."""
    steps = (math.ceil(pairs * number / looks) for number in range(1, looks + 1))
    return Looks(at=tuple(sorted({max(min(first, pairs), one) for one in steps})), level=level)


def spent(fraction: float, alpha: float) -> float:
    """The part of a one-sided error `alpha` that may be made until this fraction of the pairs."""
    if fraction <= 0:
        return 0.0
    return 2 - 2 * normal_below(normal_quantile(1 - alpha / 2) / math.sqrt(fraction))


@lru_cache(maxsize=64)
def boundaries(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """z that must be passed at each look. alpha: one-sided error over all looks."""
    bounds: list[float] = []
    # Where the sum of what was seen may be while it has passed no bound, and how likely.
    past, mass = np.zeros(1), np.ones(1)
    before, used = 0.0, 0.0
    for fraction in fractions:
        step, far = math.sqrt(fraction - before), _FAR * math.sqrt(fraction)
        allowed = spent(fraction, alpha) - used
        bound = _bound(past, mass, step, far, allowed)
        bounds.append(bound / math.sqrt(fraction))
        edges = np.linspace(-far, bound, _GRID + 1)
        mass = mass @ np.diff(_below((edges[None, :] - past[:, None]) / step), axis=1)
        past = (edges[:-1] + edges[1:]) / 2
        before, used = fraction, used + allowed
    return tuple(bounds)


def _bound(past: Numbers, mass: Numbers, step: float, far: float, allowed: float) -> float:
    """What is passed in the next step with the allowed probability."""

    def excess(bound: float) -> float:
        return float(mass @ _below((past - bound) / step)) - allowed

    return far if excess(far) >= 0 else float(brentq(excess, -far, far, xtol=1e-10))


def _below(z: Numbers) -> Numbers:
    return np.asarray(ndtr(z), dtype=np.float64)
