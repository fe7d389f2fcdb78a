"""A learning rate by a short range test on the network itself, or on a proxy of fewer layers."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from meted.domain.job import RateFinder, TrainingSpec
from meted.live.training.data import Ids
from meted.live.training.house import House, cpu_nanos
from meted.live.training.model import Trainee
from meted.live.training.optimizers import build_optimizers, step_all
from meted.optimise.rate_finder import (
    MU_P,
    ProxyOptimum,
    RateError,
    RatePoint,
    Suggestion,
    suggest,
    transferred,
)
from meted.predict.estimate import Estimate

POINTS = 12
SPAN = 1000.0
"""The last rate is so many times the first; the optimizer's own lies in the middle by logarithm."""
LOST = 1.5
"""The test ends before the loss is so many times that of the start: what follows tells nothing."""
MOST_TRUST = 10.0
"""A suggestion further than this factor from the optimizer's own rate is taken as this far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFound:
    """rate: for the job's batch, its interval with it. said: how it was found, or why not."""

    rate: Estimate | None
    said: str


def range_test(
    trainee: Trainee,
    spec: TrainingSpec,
    rows: Ids,
    *,
    usual: float,
    house: House,
    durable: Callable[[], int],
) -> list[RatePoint]:
    """The loss on these rows after a step at each of POINTS rising rates around the usual one.

    The rows stay the same, so that differences are the steps' and not the text's. The weights are
    put back. Orders of the house are heeded between micro-batches; durable says how far the job is.
    """
    first = {name: one.clone() for name, one in trainee.weights().items()}
    parameters = list(trainee.parameters.values())
    low = usual / math.sqrt(SPAN)
    rates = [low * SPAN ** (at / (POINTS - 1)) for at in range(POINTS)]
    optimizers = build_optimizers(spec, parameters, low)
    points = list[RatePoint]()
    try:
        trainee.train(True)
        start = _gradient(trainee, spec, rows, house, durable)
        for rate in rates:
            step_all(optimizers, parameters, rate=rate)
            loss = _gradient(trainee, spec, rows, house, durable)
            if not math.isfinite(loss) or loss > LOST * start:
                break
            points.append(RatePoint(rate=rate, loss=loss))
    finally:
        trainee.restore(first)
        for parameter in parameters:
            parameter.grad = None
    return points


def tokens_of_test(rows: int, spec: TrainingSpec) -> int:
    """Tokens that a range test on so many rows trains on, the first look included."""
    return (POINTS + 1) * rows * spec.sequence_tokens


def rate_of(points: list[RatePoint], *, spec: TrainingSpec, width: int, batch: int) -> Estimate:
    """The rate for a job of `batch` tokens a step, from a test whose step had all of its rows.

    width: of the network, the same for test and job; batch: tokens of the job's step over those of
    the test's. By the rule of `rate_finder.MU_P`: sqrt of the batch. Raises RateError.
    """
    found: Suggestion = suggest(points)
    proxy = ProxyOptimum(width=width, batch=1, rate=found.rate)
    return transferred([proxy], width=width, batch=max(1, batch), rule=MU_P)


def find_rate(
    trainee: Trainee,
    spec: TrainingSpec,
    rows: Ids,
    *,
    usual: float,
    batch_rows: int,
    house: House,
    durable: Callable[[], int],
) -> RateFound:
    """What a range test says of the rate; nothing where the loss does not fall clearly."""
    where = "a proxy of fewer layers" if spec.auto and _by_proxy(spec) else "the network"
    width = int(getattr(trainee.network.config, "hidden_size", 1))
    try:
        points = range_test(trainee, spec, rows, usual=usual, house=house, durable=durable)
        rate = rate_of(points, spec=spec, width=width, batch=round(batch_rows / len(rows)))
    except RateError as error:
        return RateFound(rate=None, said=f"range test on {where} gave no rate: {error}")
    said = (
        f"range test on {where} with {spec.optimizer}: {rate.expected:.3g} "
        f"({rate.low:.3g} to {rate.high:.3g}); usual is {usual:.3g}"
    )
    return RateFound(rate=rate, said=said)


def trusted(found: float, usual: float) -> float:
    """By how much the usual rate is to be multiplied."""
    return min(MOST_TRUST, max(1 / MOST_TRUST, found / usual))


def pace(trainee: Trainee, spec: TrainingSpec, rows: Ids, house: House) -> float:
    """Device-nanoseconds for a token's forward and backward pass; the weights stay as they are."""
    trainee.train(True)
    _gradient(trainee, spec, rows, house, lambda: 0)
    begun = cpu_nanos()
    _gradient(trainee, spec, rows, house, lambda: 0)
    used = cpu_nanos() - begun
    for parameter in trainee.parameters.values():
        parameter.grad = None
    return used / rows.size


def _by_proxy(spec: TrainingSpec) -> bool:
    return spec.auto is not None and spec.auto.finder is RateFinder.PROXY


def _gradient(
    trainee: Trainee, spec: TrainingSpec, rows: Ids, house: House, durable: Callable[[], int]
) -> float:
    """Add the gradient on the rows up; their mean loss."""
    total = 0.0
    for start in range(0, len(rows), spec.micro_batch):
        micro = rows[start : start + spec.micro_batch]
        part: torch.Tensor = trainee.loss(micro) * (len(micro) / len(rows))
        part.backward()  # pyright: ignore[reportUnknownMemberType]
        total += part.item()
        house.heed(durable)
    return total
