"""What is believed of every candidate's cost: prior, offsets of shared traits, measurements."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]

SCALES = (1.0, 1.5, 2.25, 3.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """What candidates have in common and a predictor errs about alike: an engine, a variant, a
    setting. doubt: deviation of that error of the log cost."""

    name: str
    doubt: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A configuration that may be measured.

    traits: what it shares with others, each name once; what is measured of one tells of the others.
    log_cost, doubt: mean and deviation of the logarithm of dollars per million tokens, apart from
    its traits' errors. infeasible: why it cannot be used, where that is known before measuring.
    """

    key: str
    traits: tuple[Trait, ...]
    log_cost: float
    doubt: float
    infeasible: str | None = None

    def __post_init__(self) -> None:
        if not self.doubt > 0:
            raise ValueError(f"{self.key!r} has a prior of doubt {self.doubt}, expected above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How far priors and measurements are trusted; all are deviations of a log cost.

    noise: of one full measurement, a belief worth `points` repeats (inverse gamma on the variance).
    common: of what all candidates share.
    """

    noise: float = 0.04
    points: float = 4.0
    common: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement: log of dollars per million tokens, and its effort."""

    log_cost: float
    effort: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """A joint normal over log costs; index: a candidate's place in it. noise: as learnt."""

    index: Mapping[str, int]
    mean: Numbers
    covariance: Numbers
    noise: float

    def log_cost(self, key: str) -> tuple[float, float]:
        """Mean and deviation."""
        at = self.index[key]
        return float(self.mean[at]), math.sqrt(max(float(self.covariance[at, at]), 0.0))

    def excess(self, key: str, over: str) -> tuple[float, float]:
        """Mean and deviation of how much dearer one is than the other, as a log ratio."""
        at, other = self.index[key], self.index[over]
        both = self.covariance
        variance = both[at, at] + both[other, other] - 2 * both[at, other]
        return float(self.mean[at] - self.mean[other]), math.sqrt(max(float(variance), 0.0))


def believed(
    candidates: Sequence[Candidate], samples: Mapping[str, Sequence[Sample]], trust: Trust
) -> Belief:
    """The posterior of a normal prior and measurements with noise of deviation / sqrt(effort).

    Priors may claim too much: their doubts are taken times the one of `SCALES` under which what was
    measured is likeliest.
    """
    mean: Numbers = np.array([one.log_cost for one in candidates])
    noise = _noise(samples, trust)
    seen = [number for number, one in enumerate(candidates) if samples.get(one.key)]
    mine = [samples[candidates[number].key] for number in seen]
    surprise: Numbers = np.array([_level(one) for one in mine]) - mean[seen]
    doubt = np.diag([noise**2 / _effort(one) for one in mine])
    priors = [_prior(candidates, trust, scale) for scale in SCALES]
    prior = min(priors, key=lambda one: _unlikely(one[np.ix_(seen, seen)] + doubt, surprise))
    if seen:
        gain: Numbers = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + doubt)
        mean = mean + gain @ surprise
        prior = prior - gain @ prior[seen]
    return Belief(
        index={one.key: number for number, one in enumerate(candidates)},
        mean=mean,
        covariance=prior,
        noise=noise,
    )


def _prior(candidates: Sequence[Candidate], trust: Trust, scale: float) -> Numbers:
    doubts = np.array([scale * one.doubt for one in candidates])
    shared = _loadings(candidates) * scale
    return np.diag(doubts**2) + shared @ shared.T + trust.common**2


def _loadings(candidates: Sequence[Candidate]) -> Numbers:
    """Candidates times traits: the trait's doubt where the candidate has it, else 0."""
    names = {trait.name: None for one in candidates for trait in one.traits}
    column = {name: number for number, name in enumerate(names)}
    loadings: Numbers = np.zeros((len(candidates), len(column)))
    for row, one in enumerate(candidates):
        for trait in one.traits:
            loadings[row, column[trait.name]] = trait.doubt
    return loadings


def _unlikely(covariance: Numbers, surprise: Numbers) -> float:
    """Minus twice the log of the normal density, less a constant."""
    if not len(surprise):
        return 0.0
    return float(np.linalg.slogdet(covariance)[1] + surprise @ np.linalg.inv(covariance) @ surprise)


def _effort(samples: Sequence[Sample]) -> float:
    return sum(one.effort for one in samples)


def _level(samples: Sequence[Sample]) -> float:
    """Mean by precision, which is proportional to effort."""
    return sum(one.effort * one.log_cost for one in samples) / _effort(samples)


def _noise(samples: Mapping[str, Sequence[Sample]], trust: Trust) -> float:
    """Repeats of one candidate tell the noise, whatever its cost."""
    scatter, freedom = trust.points * trust.noise**2, trust.points
    for mine in samples.values():
        if len(mine) > 1:
            level = _level(mine)
            scatter += sum(one.effort * (one.log_cost - level) ** 2 for one in mine)
            freedom += len(mine) - 1
    return math.sqrt(scatter / freedom)
