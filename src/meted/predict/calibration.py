"""From measured steps to factors: a fit that starts from honest priors, so zero points suffice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from meted.predict.estimate import Estimate
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import (
    Factors,
    Setup,
    StepParts,
    combine,
    ideal_step,
    predict_replica,
)
from meted.predict.step_time import StepWork

Matrix: TypeAlias = tuple[tuple[float, ...], ...]

FACTOR_NAMES = tuple(one.name for one in fields(Factors))
HOST = ("fixed_micros", "prompt_micros", "layer_micros", "sequence_micros", "message_micros")
"""Factors that belong to the machine's processor and the engine's code more than to the device."""


def _values(factors: Factors) -> NDArray[np.float64]:
    return np.array([getattr(factors, name) for name in FACTOR_NAMES])


def _logs(factors: Factors) -> NDArray[np.float64]:
    return np.log(_values(factors))


def _factors(logs: NDArray[np.float64]) -> Factors:
    return Factors(**dict(zip(FACTOR_NAMES, np.exp(logs).tolist(), strict=True)))


def _matrix(values: NDArray[np.float64]) -> Matrix:
    return tuple(tuple(float(one) for one in row) for row in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """One step that was timed, in microseconds."""

    setup: Setup
    work: StepWork
    micros: float

    def __post_init__(self) -> None:
        if not self.micros > 0:
            raise ValueError(f"a measured step took {self.micros} us, expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationKey:
    """What one calibration is about."""

    family: str
    kind: str
    engine: str


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
    of those that only decode."""

    factors: Factors
    covariance: Matrix
    prompt_noise: Noise
    decode_noise: Noise


def spread(alone: Factors, together: Mapping[str, float]) -> Matrix:
    """The covariance of logarithms: a deviation of each factor alone, and one that some share."""
    shared = np.array([together.get(name, 0.0) for name in FACTOR_NAMES])
    return _matrix(np.diag(_values(alone) ** 2) + np.outer(shared, shared))


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


def _normals(count: int) -> NDArray[np.float64]:
    """Normal points in pairs of opposite sign, the same each time."""
    half = np.random.default_rng(20_261_126).normal(size=(count // 2, len(FACTOR_NAMES)))
    return np.concatenate([half, -half])


_NORMALS = _normals(128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors with their doubt, and what the form misses. `points` were measured to get here."""

    factors: Factors
    covariance: Matrix
    prompt_noise: Noise
    decode_noise: Noise
    points: int = 0

    def predict(self, setup: Setup, work: StepWork, level: float = 0.9) -> Estimate:
        """Step time in microseconds with the interval that holds a measured step at `level`.

        Factors are drawn from their posterior, because a step's time is far from linear in them
        where little was measured; the misfit has Student's t. Draws are the same each time.
        """
        parts = ideal_step(setup).parts(work)
        noise = self.prompt_noise if work.prefill_tokens else self.decode_noise
        middle = math.log(combine(parts, self.factors))
        draws = _NORMALS @ _root(np.array(self.covariance)).T + _logs(self.factors)
        logs = np.array([math.log(combine(parts, _factors(one))) for one in draws])
        spread = math.sqrt(float(np.mean((logs - middle) ** 2)) + noise.deviation**2)
        reach = float(stdtrit(noise.points, (1 + level) / 2)) * spread
        return Estimate(
            low=math.exp(middle - reach),
            expected=math.exp(middle),
            high=math.exp(middle + reach),
            level=level,
        )

    def replica(self, setup: Setup) -> ReplicaModel:
        """The replica that a setup makes, with the fitted factors."""
        return predict_replica(setup, self.factors)

    def observe(self, points: Sequence[MeasuredStep]) -> "Calibration":
        """This calibration with more points."""
        seen = calibrate(points, self.as_prior())
        return replace(seen, points=self.points + len(points))

    def as_prior(self, *, device: float = 0.0, host: float = 0.0) -> FactorPrior:
        """What this calibration says about another device kind, engine version or model.

        device, host: deviations of log that are added, to each factor alone for the device's, to
        all together for the host's, since a faster processor speeds up all that it does.
        """
        wider = np.array(self.covariance)
        for index, name in enumerate(FACTOR_NAMES):
            wider[index, index] += (0.3 * host if name in HOST else device) ** 2
        shared = np.array([host if name in HOST else 0.0 for name in FACTOR_NAMES])
        return FactorPrior(
            factors=self.factors,
            covariance=_matrix(wider + np.outer(shared, shared)),
            prompt_noise=self.prompt_noise,
            decode_noise=self.decode_noise,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, lists and dicts, to be kept as JSON."""
        return {
            "factors": {name: getattr(self.factors, name) for name in FACTOR_NAMES},
            "covariance": [list(row) for row in self.covariance],
            "prompt_noise": [self.prompt_noise.deviation, self.prompt_noise.points],
            "decode_noise": [self.decode_noise.deviation, self.decode_noise.points],
            "points": self.points,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """The calibration that `to_dict` wrote.

        Raises ValueError if it was written with other factors than this version has.
        """
        if set(kept["factors"]) != set(FACTOR_NAMES):
            raise ValueError(
                f"a kept calibration has the factors {', '.join(sorted(kept['factors']))}, "
                f"expected {', '.join(sorted(FACTOR_NAMES))}; calibrate again"
            )
        prompt, decode = kept["prompt_noise"], kept["decode_noise"]
        return cls(
            factors=Factors(**kept["factors"]),
            covariance=_matrix(np.array(kept["covariance"])),
            prompt_noise=Noise(deviation=prompt[0], points=prompt[1]),
            decode_noise=Noise(deviation=decode[0], points=decode[1]),
            points=kept["points"],
        )


def calibrate(points: Sequence[MeasuredStep], prior: FactorPrior = PRIOR) -> Calibration:
    """The factors that measured steps and the prior make most probable (MAP), with the Laplace
    covariance around them.

    Residuals are of log time. The misfit of each phase is estimated along (EM): its variance is
    the mean of the prior's and of the residuals', each residual with the doubt that the factors
    leave in it. The order of the points does not matter.
    """
    seen = sorted((ideal_step(one.setup).parts(one.work), math.log(one.micros)) for one in points)
    start = _logs(prior.factors)
    if not seen:
        return _calibration(
            start, np.array(prior.covariance), prior.prompt_noise, prior.decode_noise, 0
        )
    is_prompt = np.array([parts.prompt > 0 for parts, _ in seen])
    whiten = np.linalg.inv(np.linalg.cholesky(np.array(prior.covariance)))
    noises = {True: prior.prompt_noise, False: prior.decode_noise}
    at = start
    covariance: NDArray[np.float64] = np.array(prior.covariance)
    for _ in range(6):
        scale = np.where(is_prompt, noises[True].deviation, noises[False].deviation)

        def misfit(
            logs: NDArray[np.float64], scale: NDArray[np.float64] = scale
        ) -> NDArray[np.float64]:
            return np.concatenate([_residuals(seen, logs) / scale, whiten @ (logs - start)])

        found = least_squares(misfit, at, method="lm", xtol=1e-8, ftol=1e-8)
        at = found.x
        slopes: NDArray[np.float64] = np.asarray(cast(Any, found.jac))
        covariance = np.asarray(np.linalg.inv(slopes.T @ slopes), dtype=np.float64)
        slopes = slopes[: len(seen)] * scale[:, None]
        squares = _residuals(seen, at) ** 2 + np.einsum("ij,jk,ik->i", slopes, covariance, slopes)
        noises = {
            phase: _noise(before, squares[is_prompt == phase])
            for phase, before in ((True, prior.prompt_noise), (False, prior.decode_noise))
        }
    return _calibration(at, covariance, noises[True], noises[False], len(points))


def _noise(before: Noise, squares: NDArray[np.float64]) -> Noise:
    count = before.points + len(squares)
    variance = (before.points * before.deviation**2 + float(squares.sum())) / count
    return Noise(deviation=math.sqrt(variance), points=count)


def _residuals(
    seen: Sequence[tuple[StepParts, float]], logs: NDArray[np.float64]
) -> NDArray[np.float64]:
    factors = _factors(logs)
    return np.array([math.log(combine(parts, factors)) - log for parts, log in seen])


def _calibration(
    logs: NDArray[np.float64],
    covariance: NDArray[np.float64],
    prompt: Noise,
    decode: Noise,
    points: int,
) -> Calibration:
    return Calibration(
        factors=_factors(logs),
        covariance=_matrix(covariance),
        prompt_noise=prompt,
        decode_noise=decode,
        points=points,
    )


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square root of a covariance that may have lost its rank to rounding."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0.0))
