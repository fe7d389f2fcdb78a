"""From measured steps to factors: a fit that starts from honest priors, so zero points suffice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from meted.predict.estimate import Estimate
from meted.predict.evidence import Evidence, MeasuredStep
from meted.predict.factor_prior import (
    FACTOR_NAMES,
    PRIOR,
    FactorPrior,
    Matrix,
    Noise,
    Regimes,
    factor_logs,
    factors_at,
    matrix,
    spread,
)
from meted.predict.ideal import StepParts, ideal_step
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Factors, Setup, combine, predict_replica
from meted.predict.step_time import StepWork

__all__ = [
    "FACTOR_NAMES",
    "PRIOR",
    "Calibration",
    "CalibrationKey",
    "FactorPrior",
    "MeasuredStep",
    "Noise",
    "calibrate",
    "log_draws",
    "spread",
]

HOST = ("fixed_micros", "prompt_micros", "layer_micros", "sequence_micros", "message_micros")
"""Factors that belong to the machine's processor and the engine's code more than to the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationKey:
    """What one calibration is about."""

    family: str
    kind: str
    engine: str


def _normals(count: int) -> NDArray[np.float64]:
    """Normal points in pairs of opposite sign, the same each time."""
    half = np.random.default_rng(20_261_126).normal(size=(count // 2, len(FACTOR_NAMES)))
    return np.stack([half, -half], axis=1).reshape(count, len(FACTOR_NAMES))


_NORMALS = _normals(128)


_REACH = 0.5
"""How far draws go when a step's doubt is taken from them. What measured steps cannot tell apart is
a curved valley (launching hides behind the device, or the other way); draws of full length leave
it and overstate the doubt threefold at steps that were themselves measured, while the slope alone
misses factors that are idle at the centre."""

REGIME_DOUBT = 0.6
"""By how much the logarithm of a factor may differ between steps in which it rules and those in
which it was measured: no factor is quite a constant. Chosen for the coverage at batch 16 and more
on draws of Splitwise's points with seeds 100-124; benchmarks/splitwise.py reports seeds 0-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors with their doubt, and what the form misses. `points` were measured to get here."""

    factors: Factors
    covariance: Matrix
    prompt_noise: Noise
    decode_noise: Noise
    points: int = 0
    regimes: Regimes = ()

    def predict(self, setup: Setup, work: StepWork, level: float = 0.9) -> Estimate:
        """Step time in microseconds with the interval that holds a measured step at `level`.

        Factors are drawn from their posterior, because a step's time is far from linear in them
        where little was measured; the misfit has Student's t. Draws are the same each time.
        """
        parts = ideal_step(setup).parts(work)
        middle = math.log(combine(parts, self.factors))
        reach = float(stdtrit(self._noise(work).points, (1 + level) / 2)) * self._doubt(setup, work)
        return Estimate(
            low=math.exp(middle - reach),
            expected=math.exp(middle),
            high=math.exp(middle + reach),
            level=level,
        )

    def _doubt(self, setup: Setup, work: StepWork) -> float:
        """Deviation of the log time of a measured step around its prediction."""
        parts = ideal_step(setup).parts(work)
        middle = math.log(combine(parts, self.factors))
        reach = _REACH if self.regimes else 1.0
        logs = log_draws(self.as_prior(), setup, work, reach)
        variance = float(np.mean((logs - middle) ** 2)) / reach**2
        if self.regimes:
            away = np.array(self.regimes) - np.array(_shares(parts, self.factors))
            variance = max(variance, REGIME_DOUBT**2 * float(np.min(np.sum(away**2, axis=1))))
        return math.sqrt(variance + self._noise(work).deviation ** 2)

    def _noise(self, work: StepWork) -> Noise:
        return self.prompt_noise if work.prefill_tokens else self.decode_noise

    def replica(self, setup: Setup) -> ReplicaModel:
        """The replica that a setup makes, with the fitted factors."""
        return predict_replica(setup, self.factors)

    def draws(self, count: int) -> tuple[Factors, ...]:
        """Up to 128 equally likely factors, the same each time: a replay with each of them gives
        the doubt of whatever it ends in, such as a quantile of TTFT."""
        return tuple(factors_at(one) for one in _draws(self.as_prior())[:count])

    def observe(self, points: Sequence[MeasuredStep], *, drift: float = 0.02) -> "Calibration":
        """This calibration with more points, which are best given in batches.

        drift: deviation of log by which each factor may have moved since the last batch, so that
        a long life does not make it deaf to a change. 0 for measurements of one moment.
        """
        seen = calibrate(points, self.as_prior(device=drift, host=drift))
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
            covariance=matrix(wider + np.outer(shared, shared)),
            prompt_noise=_bounded(self.prompt_noise),
            decode_noise=_bounded(self.decode_noise),
            regimes=self.regimes,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, lists and dicts, to be kept as JSON."""
        return {
            "factors": {name: getattr(self.factors, name) for name in FACTOR_NAMES},
            "covariance": [list(row) for row in self.covariance],
            "prompt_noise": [self.prompt_noise.deviation, self.prompt_noise.points],
            "decode_noise": [self.decode_noise.deviation, self.decode_noise.points],
            "points": self.points,
            "regimes": [list(one) for one in self.regimes],
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
            covariance=matrix(np.array(kept["covariance"])),
            prompt_noise=Noise(deviation=prompt[0], points=prompt[1]),
            decode_noise=Noise(deviation=decode[0], points=decode[1]),
            points=kept["points"],
            regimes=tuple(tuple(one) for one in kept.get("regimes", ())),
        )


def calibrate(points: Sequence[MeasuredStep], prior: FactorPrior = PRIOR) -> Calibration:
    """The factors that measured steps and the prior make most probable (MAP), with the Laplace
    covariance around them.

    Residuals are of log time. Steps of one setup that are alike, within the same octave of prompt
    tokens, decoded tokens and context, share what the form misses: their mean counts as one
    observation, so that a thousand equal steps do not pass for a thousand proofs. The misfit of
    each phase is estimated along (EM): its variance is the mean of the prior's and of the
    residuals', each residual with the doubt that the factors leave in it. The order of the points
    does not matter.
    """
    if not points:
        return Calibration(
            factors=prior.factors,
            covariance=prior.covariance,
            prompt_noise=prior.prompt_noise,
            decode_noise=prior.decode_noise,
            regimes=prior.regimes,
        )
    evidence = Evidence.of(points)
    start = at = factor_logs(prior.factors)
    covariance: NDArray[np.float64] = np.array(prior.covariance)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    noises = {True: prior.prompt_noise, False: prior.decode_noise}
    for _ in range(_ROUNDS):
        scale = np.where(evidence.prompts, noises[True].deviation, noises[False].deviation)

        def misfit(
            logs: NDArray[np.float64], scale: NDArray[np.float64] = scale
        ) -> NDArray[np.float64]:
            return np.concatenate([evidence.residuals(logs) / scale, whiten @ (logs - start)])

        found = least_squares(misfit, at, method="lm", xtol=1e-8, ftol=1e-8)
        at = found.x
        slopes: NDArray[np.float64] = np.asarray(cast(Any, found.jac))
        covariance = np.asarray(np.linalg.inv(slopes.T @ slopes), dtype=np.float64)
        slopes = slopes[: len(scale)] * scale[:, None]
        doubt = np.einsum("ij,jk,ik->i", slopes, covariance, slopes)
        squares = evidence.residuals(at) ** 2 + doubt
        noises = {
            phase: _noise(before, squares[evidence.prompts == phase])
            for phase, before in ((True, prior.prompt_noise), (False, prior.decode_noise))
        }
    factors = factors_at(at)
    measured = {_shares(parts, factors) for parts, _ in evidence.steps}
    return Calibration(
        factors=factors,
        covariance=matrix(covariance),
        prompt_noise=noises[True],
        decode_noise=noises[False],
        points=len(points),
        regimes=tuple(sorted(measured.union(prior.regimes))),
    )


_ROUNDS = 6
"""Of estimating the misfit and the factors in turn; on Splitwise's points six more rounds change no
prediction by more than half a percent."""


def _shares(parts: StepParts, factors: Factors) -> tuple[float, ...]:
    """By how many percent a step's time changes with one percent of each factor, to 0.05."""
    logs = factor_logs(factors)
    middle = math.log(combine(parts, factors))
    slopes: list[float] = []
    for index in range(len(logs)):
        moved = logs.copy()
        moved[index] += 0.01
        slope = (math.log(combine(parts, factors_at(moved))) - middle) / 0.01
        slopes.append(round(20 * slope) / 20)
    return tuple(slopes)


def _noise(before: Noise, squares: NDArray[np.float64]) -> Noise:
    count = before.points + len(squares)
    variance = (before.points * before.deviation**2 + float(squares.sum())) / count
    return Noise(deviation=math.sqrt(variance), points=count)


def _bounded(noise: Noise) -> Noise:
    """A belief that new observations can still change."""
    return Noise(deviation=noise.deviation, points=min(noise.points, 30.0))


def log_draws(
    prior: FactorPrior, setup: Setup, work: StepWork, reach: float = 1.0
) -> NDArray[np.float64]:
    """Log time of a step for each draw of the factors, the same draws for every step; `reach` times
    as far from the centre as the prior's deviations."""
    parts = ideal_step(setup).parts(work)
    return np.array([math.log(combine(parts, factors_at(one))) for one in _draws(prior, reach)])


def _draws(prior: FactorPrior, reach: float = 1.0) -> NDArray[np.float64]:
    return reach * _NORMALS @ _root(np.array(prior.covariance)).T + factor_logs(prior.factors)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A square root of a covariance that may have lost its rank to rounding."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0.0))
