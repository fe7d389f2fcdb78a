"""Efficiency factors of training, learned from published runs, with what they leave in doubt."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from meted.predict.cores import CORE_PREFIX
from meted.predict.estimate import Estimate
from meted.predict.training.goodput import goodput
from meted.predict.training.memory import checkpoint_bytes
from meted.predict.training.published_runs import PublishedRun, published_runs
from meted.predict.training.step import (
    EfficiencyFactors,
    IdealTrainingStep,
    ideal_training_step,
    training_step,
)

Floats = NDArray[np.float64]
Predicted = Callable[[EfficiencyFactors], float]

FACTOR_NAMES = ("compute", "ridge", "memory", "link", "whole")

PRIOR_CENTRE = EfficiencyFactors()
PRIOR_DEVIATION = (0.20, 0.50, 0.35, 0.40, 0.15)
"""Deviations of the logarithms of the factors before any run is seen: large matrices reach half
to nine tenths of the peak, streams half to all of the bandwidth, collectives a third to all of a
link's; how efficiency falls with the ridge is next to unknown."""

STEP_NOISE, WHOLE_NOISE = 0.06, 0.15
"""Deviation of log time that the form is trusted with before any run is seen: of a measured step,
and of a whole run, whose layout, pauses and repeats are known less well."""

TEAM_STEP_NOISE, TEAM_WHOLE_NOISE = 0.10, 0.20
"""Deviation of log time that runs of one team share, before any is seen: its software and network.
A prediction is for a team of which nothing is known."""

NOISE_WORTH = 4.0
"""Runs, or teams, that the belief in each of these deviations is worth."""

OTHER_KIND_DOUBT = 0.25
"""Deviation of log time that is added on a kind of device of which no run was seen."""

EXPERTS_DOUBT = 0.25
"""The same where experts are spread over devices, of which no run was seen either."""

CORES_DOUBT = 0.6
"""The same on processor cores, where frameworks differ by a factor of two and more."""

WIDE = 3.0
"""High over low of an interval above which the doubt is told in a sentence."""

ROUNDS = 12
"""Of Gauss-Newton and noise by turns: the factors stand still to four digits well before."""

STORAGE = 100e9
"""Bytes per second of checkpoint storage assumed for published runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """A published run made ready: its ideal step once counted."""

    run: PublishedRun
    ideal: IdealTrainingStep

    @property
    def whole(self) -> bool:
        return self.run.device_hours is not None

    def predicted(self, factors: EfficiencyFactors) -> float:
        """What the run measured, predicted: seconds of a step, or device-hours."""
        seconds = training_step(self.ideal, factors).seconds
        if not self.whole:
            return seconds
        run = self.run
        assert run.tokens is not None
        hours = run.tokens / run.algorithm.batch_tokens * seconds / 3600
        kept = goodput(
            productive_hours=hours / factors.whole,
            devices=self.ideal.devices,
            checkpoint_bytes=checkpoint_bytes(run.architecture, run.algorithm),
            storage_bytes_per_second=STORAGE,
        ).productive
        return hours / factors.whole / kept * self.ideal.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Deviations of log time that no factor explains: of a run by itself, and of its team. freedom:
    degrees of Student's t, the belief's worth and the teams seen."""

    own: float
    team: float
    freedom: float = NOISE_WORTH

    @property
    def total(self) -> float:
        return math.hypot(self.own, self.team)


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Factors with the covariance of their logarithms. step_noise, whole_noise: of measured steps
    and of whole runs. kinds: of devices that were seen."""

    factors: EfficiencyFactors
    covariance: tuple[tuple[float, ...], ...]
    step_noise: Noise
    whole_noise: Noise
    kinds: frozenset[str] = field(default_factory=frozenset[str])

    def step_seconds(self, ideal: IdealTrainingStep, kind: str, level: float = 0.9) -> Estimate:
        """Seconds of an optimizer step."""

        def seconds(factors: EfficiencyFactors) -> float:
            return training_step(ideal, factors).seconds

        return self._of_step(seconds, self.step_noise, ideal, kind, level)

    def whole_seconds(self, ideal: IdealTrainingStep, kind: str, level: float = 0.9) -> Estimate:
        """Seconds that a step takes of a whole run, failures aside: pauses and repeats included,
        with the interval of whole runs."""

        def seconds(factors: EfficiencyFactors) -> float:
            return training_step(ideal, factors).seconds / factors.whole

        return self._of_step(seconds, self.whole_noise, ideal, kind, level)

    def _of_step(
        self,
        seconds: Predicted,
        noise: Noise,
        ideal: IdealTrainingStep,
        kind: str,
        level: float,
    ) -> Estimate:
        """No step is faster than its arithmetic at peak, whatever the doubt."""
        more = EXPERTS_DOUBT if ideal.experts else 0.0
        told = self._estimate(seconds, noise, kind, level, more=more)
        peak = ideal.hardware_flops / (ideal.devices * ideal.peak_flops)
        return replace(told, low=min(told.expected, max(told.low, peak)))

    def of_run(self, seen: SeenRun, level: float = 0.9) -> Estimate:
        """What a published run measured, predicted with its interval."""
        noise = self.whole_noise if seen.whole else self.step_noise
        return self._estimate(seen.predicted, noise, seen.run.kind.name, level)

    def _estimate(
        self, predicted: Predicted, noise: Noise, kind: str, level: float, *, more: float = 0.0
    ) -> Estimate:
        centre = math.log(predicted(self.factors))
        slope = _slope(predicted, _logs(self.factors))
        variance = float(slope @ np.array(self.covariance) @ slope) + noise.total**2 + more**2
        if kind not in self.kinds:
            cores = kind.startswith(CORE_PREFIX)
            variance += (CORES_DOUBT if cores else OTHER_KIND_DOUBT) ** 2
        reach = float(stdtrit(noise.freedom, 0.5 + level / 2)) * math.sqrt(variance)
        return Estimate(
            low=math.exp(centre - reach),
            expected=math.exp(centre),
            high=math.exp(centre + reach),
            level=level,
        )


def seen(runs: Sequence[PublishedRun]) -> tuple[SeenRun, ...]:
    """The runs made ready."""
    return tuple(
        SeenRun(run=run, ideal=ideal_training_step(run.architecture, run.algorithm, run.kind))
        for run in runs
    )


def fit_efficiency(runs: Sequence[SeenRun]) -> Efficiency:
    """Factors that explain the runs best under their priors, by Gauss-Newton on log time, and the
    noise that is left, by turns; with no runs, the prior.

    The covariance is that of the linear model at the optimum. The noise of steps and of whole runs
    has a part of the run and one that its team shares, each a scaled inverse chi-square with
    `NOISE_WORTH` degrees before any run, so that ten runs of one team do not count as ten.
    """
    centre = _logs(PRIOR_CENTRE)
    weight = np.diag(1 / np.square(PRIOR_DEVIATION))
    logs, noise = (
        centre,
        (
            Noise(own=STEP_NOISE, team=TEAM_STEP_NOISE),
            Noise(own=WHOLE_NOISE, team=TEAM_WHOLE_NOISE),
        ),
    )
    covariance = _inverse(weight)
    whole = np.array([one.whole for one in runs], dtype=bool)
    teams = np.array([f"{one.run.family} {one.whole}" for one in runs])
    for _ in range(ROUNDS if runs else 0):
        factors = _factors(logs)
        residual = np.array([math.log(one.run.measured / one.predicted(factors)) for one in runs])
        slopes = np.array([_slope(one.predicted, logs) for one in runs])
        own = np.where(whole, noise[1].own, noise[0].own)
        shared = np.where(whole, noise[1].team, noise[0].team)
        errors = np.diag(own**2) + (teams[:, None] == teams) * np.outer(shared, shared)
        precision = _inverse(errors)
        covariance = _inverse(weight + slopes.T @ precision @ slopes)
        logs = logs + covariance @ (slopes.T @ precision @ residual + weight @ (centre - logs))
        noise = (
            _noise(residual[~whole], teams[~whole], STEP_NOISE, TEAM_STEP_NOISE),
            _noise(residual[whole], teams[whole], WHOLE_NOISE, TEAM_WHOLE_NOISE),
        )
    return Efficiency(
        factors=_factors(logs),
        covariance=tuple(tuple(float(value) for value in row) for row in covariance),
        step_noise=noise[0],
        whole_noise=noise[1],
        kinds=frozenset(one.run.kind.name for one in runs),
    )


@lru_cache(maxsize=1)
def published_efficiency() -> Efficiency:
    """The factors that all published runs teach."""
    return fit_efficiency(seen(published_runs()))


def doubt_sentence(
    estimate: Estimate, kind: str, known: Efficiency, *, experts: bool = False
) -> str:
    """Why an interval is very wide, in a sentence; empty where it is not. experts: they are spread
    over devices."""
    if estimate.spread <= WIDE:
        return ""
    if kind not in known.kinds:
        why = "no published run on that kind of device was seen"
    elif experts:
        why = "no published run with experts spread over devices was seen"
    else:
        why = (
            "published whole runs differ that much: Llama 3 8B took over twice the device-hours "
            "that the others foretell, Llama 3.1 405B two thirds"
        )
    return (
        f"The {estimate.level:.0%} interval spans a factor of {estimate.spread:.1f}: {why}. "
        "Time a few steps before money is spent on it."
    )


def _inverse(matrix: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _noise(
    residual: Floats, teams: NDArray[np.str_], own_before: float, team_before: float
) -> Noise:
    """Deviations inside and between teams that residuals show, weighed with the belief before."""
    means = {str(team): float(np.mean(residual[teams == team])) for team in teams}
    inside = residual - np.array([means[str(team)] for team in teams])
    return Noise(
        own=_pooled(float(inside @ inside), len(residual) - len(means), own_before),
        team=_pooled(sum(mean**2 for mean in means.values()), len(means), team_before),
        freedom=NOISE_WORTH + len(means),
    )


def _pooled(squares: float, count: int, before: float) -> float:
    return math.sqrt((NOISE_WORTH * before**2 + squares) / (NOISE_WORTH + count))


def _slope(predicted: Predicted, logs: Floats) -> Floats:
    """Derivatives of the logarithm of a prediction by the logarithms of the factors."""
    slopes = np.zeros(len(logs))
    for index in range(len(logs)):
        change = np.zeros(len(logs))
        change[index] = 1e-3
        up, down = predicted(_factors(logs + change)), predicted(_factors(logs - change))
        slopes[index] = math.log(up / down) / 2e-3
    return slopes


def _logs(factors: EfficiencyFactors) -> Floats:
    return np.array([math.log(getattr(factors, name)) for name in FACTOR_NAMES])


def _factors(logs: Floats) -> EfficiencyFactors:
    values = (math.exp(value) for value in logs)
    return EfficiencyFactors(**dict(zip(FACTOR_NAMES, values, strict=True)))
