"""A live comparison of two arms by blocks of time: its design, and what it says of cost and SLO.

Blocks go to one arm or the other in random order within pairs, so that drift and load hit both
alike (switchback: Bojinov, Simchi-Levi and Zhao 2023). What is compared is cost over the cost that
one fixed step model predicts for the same work (a control variate): a block with longer prompts is
no dearer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meted.domain.units import NanoUSD, Tokens
from meted.optimise.looks import Looks
from meted.optimise.quantiles import (
    jackknife_deviation,
    normal_quantile,
    student_quantile,
    two_sided,
    wilson,
)
from meted.predict.estimate import Estimate

Numbers: TypeAlias = NDArray[np.float64]

LEAST_PAIRS = 3


class Arm(StrEnum):
    """first: the version that serves now; second: the candidate."""

    FIRST = "first"
    SECOND = "second"

    @property
    def other(self) -> "Arm":
        return Arm.SECOND if self is Arm.FIRST else Arm.FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """blocks: how many, even. block_s: seconds that one lasts, of which the first washout_s count
    for nothing, as requests of the arm before still run."""

    seed: int
    blocks: int
    block_s: float
    washout_s: float = 0.0

    def __post_init__(self) -> None:
        if self.blocks < 2 * LEAST_PAIRS or self.blocks % 2:
            raise ValueError(
                f"a design has {self.blocks} blocks, expected an even number of "
                f"{2 * LEAST_PAIRS} or more"
            )
        if not 0 <= self.washout_s < self.block_s:
            raise ValueError(
                f"washout is {self.washout_s} s of blocks of {self.block_s} s, "
                "expected less than the block"
            )

    @property
    def pairs(self) -> int:
        return self.blocks // 2

    def order(self) -> tuple[Arm, ...]:
        """The arm of every block: each two blocks hold both arms, in an order drawn from seed."""
        turned = np.random.default_rng(self.seed).integers(0, 2, size=self.pairs)
        arms: list[Arm] = []
        for one in turned.tolist():
            leads = Arm.SECOND if one else Arm.FIRST
            arms += (leads, leads.other)
        return tuple(arms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one arm did in one block, without the washout.

    cost: from the books. predicted_cost: of the same work by one step model for both arms, in any
    unit. ttft_met, tpot_met: how many of the requests met that target. errors: requests that the
    arm failed. arrived: how many came, whether or not they count in the rest; None where nobody
    counted them, as in blocks that were written down before one did.
    """

    arm: Arm
    cost: NanoUSD
    predicted_cost: float
    tokens: Tokens = Tokens(0)
    requests: int = 0
    ttft_met: int = 0
    tpot_met: int = 0
    errors: int = 0
    arrived: int | None = None

    def __post_init__(self) -> None:
        if self.cost < 0 or self.predicted_cost < 0 or self.tokens < 0:
            raise ValueError(f"a block has negative numbers: {self}, expected 0 or more")
        if not 0 <= max(self.ttft_met, self.tpot_met, self.errors) <= self.requests:
            raise ValueError(f"{self} counts more than its requests, expected at most as many")

    @property
    def worked(self) -> bool:
        """Whether it can be compared at all."""
        return self.cost > 0 and self.predicted_cost > 0

    @property
    def quiet(self) -> bool:
        """Whether nobody asked. What failed in the washout was asked all the same."""
        return self.arrived == 0 and not self.requests


Pair = tuple[Block, Block]
"""The first arm's block, and the second's."""


def paired(blocks: Sequence[Block]) -> tuple[Pair, ...]:
    """Blocks two by two in time order, the first arm's first; one left over waits for its twin.

    Raises ValueError if two blocks of a pair are of the same arm.
    """
    pairs: list[Pair] = []
    for number in range(0, len(blocks) - 1, 2):
        one, other = blocks[number], blocks[number + 1]
        if one.arm is other.arm:
            raise ValueError(f"blocks {number} and {number + 1} are both of the {one.arm} arm")
        pairs.append((one, other) if one.arm is Arm.FIRST else (other, one))
    return tuple(pairs)


def saving(pairs: Sequence[Pair], *, level: float = 0.95) -> Estimate:
    """The share of cost that the second arm saves, for the same work; negative is dearer.

    1 - exp(mean log ratio of the pairs), Student's interval over pairs. For one look, at the end;
    `saving_at` is for looks on the way.
    """
    return _student(_logs(pairs), level)


def saving_at(pairs: Sequence[Pair], looks: Looks) -> Estimate:
    """The saving at a planned look: these intervals hold at all looks together, so that one that
    lies above zero is a saving however often one looks (repeated intervals, Jennison and Turnbull
    1989). Raises ValueError where no look is planned."""
    return _reaching(_logs(pairs), looks.quantile(len(pairs)), looks.level)


def holdout(stretches: Sequence[Pair], *, cluster: int = 8, level: float = 0.95) -> Estimate:
    """The saving when both arms serve at once on devices of their own.

    stretches: what both did in one stretch of time, in time order. What sets the arms apart by
    chance lingers, so that `cluster` stretches in a row count as one (batch means); a rest at the
    end is left out. Raises ValueError with fewer than three clusters.
    """
    count = len(stretches) // cluster
    _enough(count)
    logs = np.array([_log_ratio(one) for one in stretches[: count * cluster]])
    return _student(logs.reshape(count, cluster).mean(axis=1), level)


def attainment_change(
    pairs: Sequence[Pair], met: Callable[[Block], int], *, level: float = 0.95
) -> Estimate:
    """The second arm's share of requests that met a target, less the first's.

    The wider of a jackknife over pairs and of Newcombe's interval as if requests were independent:
    the jackknife alone would be sure of what never yet happened.
    """
    good, asked = _table(pairs, met), _table(pairs, lambda one: one.requests)

    def change(keep: NDArray[np.bool_]) -> float:
        counts = asked[keep].sum(axis=0)
        first, second = good[keep].sum(axis=0) / np.maximum(counts, 1)
        return second - first

    mean, deviation = _jackknife(len(pairs), change)
    half = deviation * student_quantile(two_sided(level), len(pairs) - 1)
    down, up = _newcombe(good.sum(axis=0), asked.sum(axis=0), level)
    return Estimate(
        low=max(-1.0, mean - max(half, down)),
        expected=mean,
        high=min(1.0, mean + max(half, up)),
        level=level,
    )


def _logs(pairs: Sequence[Pair]) -> Numbers:
    _enough(len(pairs))
    return np.array([_log_ratio(pair) for pair in pairs])


def _student(logs: Numbers, level: float) -> Estimate:
    return _reaching(logs, student_quantile(two_sided(level), len(logs) - 1), level)


def _reaching(logs: Numbers, reach: float, level: float) -> Estimate:
    """1 - exp of the mean, reaching so many standard errors to either side."""
    mean, half = float(logs.mean()), reach * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return Estimate(
        low=-math.expm1(mean + half),
        expected=-math.expm1(mean),
        high=-math.expm1(mean - half),
        level=level,
    )


def _log_ratio(pair: Pair) -> float:
    first, second = pair
    if not first.worked or not second.worked:
        raise ValueError("a block without work cannot be compared; leave its pair out")
    return math.log(second.cost / second.predicted_cost) - math.log(
        first.cost / first.predicted_cost
    )


def _table(pairs: Sequence[Pair], number: Callable[[Block], float]) -> Numbers:
    """[pair, arm]"""
    return np.array([[number(one) for one in pair] for pair in pairs], dtype=np.float64)


def _jackknife(count: int, statistic: Callable[[NDArray[np.bool_]], float]) -> tuple[float, float]:
    _enough(count)
    without = np.array([statistic(row) for row in ~np.eye(count, dtype=np.bool_)])
    return statistic(np.ones(count, dtype=np.bool_)), jackknife_deviation(without)


def _newcombe(good: Numbers, asked: Numbers, level: float) -> tuple[float, float]:
    """How far below and above its middle a difference of independent shares may lie."""
    if not asked.all():
        return 1.0, 1.0
    z = normal_quantile(two_sided(level))
    (low, high), (low_2, high_2) = (
        wilson(right, total, z) for right, total in zip(good.tolist(), asked.tolist(), strict=True)
    )
    first, second = (good / asked).tolist()
    return math.hypot(second - low_2, high - first), math.hypot(high_2 - second, first - low)


def _enough(pairs: int) -> None:
    if pairs < LEAST_PAIRS:
        raise ValueError(f"{pairs} pairs of blocks, expected {LEAST_PAIRS} or more")
