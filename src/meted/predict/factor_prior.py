"""What is believed about a roofline's factors before anything is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meted.predict.roofline import Factors

Matrix: TypeAlias = tuple[tuple[float, ...], ...]
Regimes: TypeAlias = tuple[tuple[float, ...], ...]
"""Steps that were measured, each as the share of its time that every factor has."""

FACTOR_NAMES = tuple(one.name for one in fields(Factors))


def factor_values(factors: Factors) -> NDArray[np.float64]:
    return np.array([getattr(factors, name) for name in FACTOR_NAMES])


def factor_logs(factors: Factors) -> NDArray[np.float64]:
    return np.log(factor_values(factors))


def factors_at(logs: NDArray[np.float64]) -> Factors:
    return Factors(**dict(zip(FACTOR_NAMES, np.exp(logs).tolist(), strict=True)))


def matrix(values: NDArray[np.float64]) -> Matrix:
    return tuple(tuple(float(one) for one in row) for row in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What the form itself misses, as the standard deviation of log time: a belief worth `points`
    observations (inverse gamma on the variance)."""

    deviation: float
    points: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorPrior:
    """Belief about the factors before measuring: log-normal around `factors`, with the covariance
    of their logarithms in the order of `FACTOR_NAMES`; and the misfit of steps with a prompt and
    of those that only decode. regimes: what has been measured to get here."""

    factors: Factors
    covariance: Matrix
    prompt_noise: Noise
    decode_noise: Noise
    regimes: Regimes = ()


def spread(alone: Factors, together: Mapping[str, float]) -> Matrix:
    """The covariance of logarithms: a deviation of each factor alone, and one that some share."""
    shared = np.array([together.get(name, 0.0) for name in FACTOR_NAMES])
    return matrix(np.diag(factor_values(alone) ** 2) + np.outer(shared, shared))


PRIOR = FactorPrior(
    factors=Factors(),
    covariance=spread(
        Factors(
            compute=0.35,
            memory=0.25,
            cache=0.5,
            link=0.5,
            spill=0.8,
            fixed_micros=0.5,
            prompt_micros=0.5,
            layer_micros=0.5,
            sequence_micros=0.5,
            message_micros=0.7,
        ),
        dict.fromkeys(("prompt_micros", "layer_micros", "sequence_micros"), 1.4),
    ),
    prompt_noise=Noise(deviation=0.08, points=3.0),
    decode_noise=Noise(deviation=0.03, points=3.0),
)
"""Before anything is measured. Engines differ by more than ten in what they spend per layer, prompt
and sampled token (recorded graphs or eager Python), and one that is slow in one is slow in all.
The centres and deviations were chosen by leave-one-out inside calibration sets of Splitwise's
points (docs/predict/steps.md), never on points that its table holds out."""
