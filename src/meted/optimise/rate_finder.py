"""A learning rate from little training: a range test, and what a small proxy says of a large model.

Range test: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meted.optimise.quantiles import normal_quantile, two_sided
from meted.predict.estimate import Estimate

Numbers: TypeAlias = NDArray[np.float64]

LEAST_POINTS = 10
WINDOW = 5
"""Slopes are of straight lines through so many points."""


class RateError(ValueError):
    """Points from which no rate can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePoint:
    """The smoothed training loss when the rate had been raised to this."""

    rate: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """rate: low to high are the rates at which the loss falls at half its best pace or more."""

    rate: Estimate
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRule:
    """How the best rate moves with size: proportional to width^width_power, batch^batch_power.

    The doubts are deviations of the powers.
    """

    name: str
    width_power: float
    width_doubt: float
    batch_power: float
    batch_doubt: float


MU_P = TransferRule(
    name="maximal update parametrisation",
    width_power=0.0,
    width_doubt=0.1,
    batch_power=0.5,
    batch_doubt=0.2,
)
"""Yang et al. 2022: the best rate does not move with width. Batch: Malladi et al. 2022 (Adam)."""
STANDARD_ADAM = TransferRule(
    name="standard parametrisation, Adam",
    width_power=-1.0,
    width_doubt=0.3,
    batch_power=0.5,
    batch_doubt=0.2,
)
"""Yang et al. 2022, table 3: Adam's rate of hidden weights goes as 1 / width. A global rate moves
less, as biases and embeddings want no change (Everett et al. 2024): hence the doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptimum:
    """The best rate that trials of a small model found, with its interval."""

    width: int
    batch: int
    rate: Estimate


def suggest(points: Sequence[RatePoint]) -> Suggestion:
    """The rate at which the loss falls fastest by log rate, before it turns.

    points: rising rates. Raises RateError for too few points, rates that do not rise, or a loss
    that does not fall beyond its own scatter.
    """
    logs, losses = _falling(points)
    slopes = np.array(
        [
            np.polyfit(logs[at : at + WINDOW], losses[at : at + WINDOW], 1)[0]
            for at in range(len(logs) - WINDOW + 1)
        ]
    )
    middles = logs[WINDOW // 2 : WINDOW // 2 + len(slopes)]
    steepest = int(np.argmin(slopes))
    low = high = steepest
    while low > 0 and slopes[low - 1] <= slopes[steepest] / 2:
        low -= 1
    while high + 1 < len(slopes) and slopes[high + 1] <= slopes[steepest] / 2:
        high += 1
    rate, turn = math.exp(middles[steepest]), math.exp(logs[-1])
    return Suggestion(
        rate=Estimate(low=math.exp(middles[low]), expected=rate, high=math.exp(middles[high])),
        reason=(
            f"the loss fell from {losses[0]:.4g} to {losses[-1]:.4g}, fastest at a rate of "
            f"{rate:.3g} ({-slopes[steepest]:.3g} per e-fold), and no further from {turn:.3g} on"
        ),
    )


def transferred(
    proxies: Sequence[ProxyOptimum],
    *,
    width: int,
    batch: int,
    rule: TransferRule,
    level: float = 0.9,
) -> Estimate:
    """The best rate of a model of this width and batch.

    log rate = a + p log width + q log batch, with the rule's powers as normal priors of p and q, so
    that proxies of several widths correct the rule; a is left to the proxies. Raises RateError
    without proxies.
    """
    if not proxies:
        raise RateError("no proxy was trained, expected the best rate of one or more")
    # Sizes are told from the wanted model's: then the answer is the constant itself.
    rows = np.array(
        [(1.0, math.log(one.width / width), math.log(one.batch / batch)) for one in proxies]
    )
    rates = np.array([math.log(one.rate.expected) for one in proxies])
    weights = np.array([1 / _deviation(one.rate) ** 2 for one in proxies])
    belief = np.array([rule.width_power, rule.batch_power])
    firmness = np.diag([0.0, rule.width_doubt**-2, rule.batch_doubt**-2])
    precision = rows.T @ (rows * weights[:, None]) + firmness
    told = rows.T @ (weights * rates) + firmness @ np.array([0.0, *belief])
    covariance = np.linalg.inv(precision)
    middle = float((covariance @ told)[0])
    half = normal_quantile(two_sided(level)) * math.sqrt(float(covariance[0, 0]))
    return Estimate(low=middle - half, expected=middle, high=middle + half, level=level).through(
        math.exp
    )


def _falling(points: Sequence[RatePoint]) -> tuple[Numbers, Numbers]:
    """Log rates and losses up to the least loss."""
    rates = np.array([one.rate for one in points], dtype=np.float64)
    losses = np.array([one.loss for one in points], dtype=np.float64)
    if len(points) < LEAST_POINTS or rates[0] <= 0 or not np.all(np.diff(rates) > 0):
        raise RateError(
            f"{len(points)} points, expected {LEAST_POINTS} or more with rising rates above 0"
        )
    if not np.isfinite(losses[0]):
        raise RateError(f"the loss is {losses[0]} at the first rate; begin with a lower one")
    bad = np.flatnonzero(~np.isfinite(losses))
    usable = int(bad[0]) if len(bad) else len(points)
    turn = int(np.argmin(losses[:usable])) + 1
    fall = float(losses[0] - losses[turn - 1])
    # Of noise alone, the second differences have six times the variance.
    scatter = float(np.std(np.diff(losses[:usable], 2))) / math.sqrt(6) if usable > 3 else 0.0
    if turn < WINDOW or fall <= 4 * scatter:
        raise RateError(
            f"the loss falls by {fall:.4g} over {turn} points, with a scatter of {scatter:.4g}; "
            "begin with a lower rate, or smooth over more steps"
        )
    return np.log(rates[:turn]), losses[:turn]


def _deviation(rate: Estimate) -> float:
    """Of the log rate, from an interval; an interval without width is taken as one per cent."""
    if rate.low <= 0:
        raise RateError(f"a proxy's best rate is {rate.low} or more, expected above 0")
    wide = math.log(rate.high / rate.low) / (2 * normal_quantile(two_sided(rate.level)))
    return max(wide, 0.01)
