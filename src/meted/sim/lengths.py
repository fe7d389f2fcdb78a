"""Lengths and durations with heavy tails: lognormal, and above a point Pareto if that fits better.

Most are short and a few are very long, in tokens of requests as in hours of jobs, so that the mean
says little and a queue's tail hangs on the longest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

Floats = NDArray[np.float64]

TAIL = 0.05
"""Share of the largest values that a Pareto tail is tried on."""
LEAST_TAIL = 30
"""Values that a tail needs before its shape is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """mu, sigma: mean and deviation of the logarithm. tail: the `tail_share` of values above
    `tail_from` falls as x ** -tail_shape; None: the lognormal goes on. least, most: smallest and
    largest value seen; none is drawn outside."""

    mu: float
    sigma: float
    least: float
    most: float
    tail_from: float = math.inf
    tail_share: float = 0.0
    tail_shape: float | None = None

    def quantile(self, share: Any) -> Floats:
        """The values below which these shares of the draws lie."""
        asked = np.asarray(share, dtype=np.float64)
        body = self._body(asked)
        if self.tail_shape is not None:
            above = np.clip((1.0 - asked) / self.tail_share, 1e-300, 1.0)
            tail = self.tail_from * above ** (-1.0 / self.tail_shape)
            body = np.where(asked > 1.0 - self.tail_share, tail, body)
        return np.clip(body, self.least, self.most)

    def _body(self, share: Floats) -> Floats:
        if self.sigma == 0:
            return np.full_like(share, math.exp(self.mu))
        if self.tail_shape is not None:
            # The lognormal up to the tail has the rest of the probability.
            whole = float(ndtr((math.log(self.tail_from) - self.mu) / self.sigma))
            share = np.clip(share / (1.0 - self.tail_share), 0.0, 1.0) * whole
        shares = np.clip(share, 1e-16, 1.0 - 1e-16)
        return np.exp(self.mu + self.sigma * np.asarray(ndtri(shares), dtype=np.float64))


def fit_lengths(values: Sequence[float]) -> Lengths:
    """Lengths like those: the lognormal of largest likelihood, with a Pareto tail (Hill 1975) where
    its likelihood of the largest 5 % is larger than the lognormal's.

    Raises ValueError without values or for one that is not above 0.
    """
    if not len(values) or not min(values) > 0:
        raise ValueError(
            f"{len(values)} lengths, the smallest {min(values, default=0)}; expected one or more, "
            "all above 0"
        )
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    logs = np.log(ordered)
    mu, sigma = float(logs.mean()), float(logs.std())
    least, most = float(ordered[0]), float(ordered[-1])
    plain = Lengths(mu=mu, sigma=sigma, least=least, most=most)
    count = math.ceil(TAIL * len(ordered))
    if count < LEAST_TAIL or sigma == 0:
        return plain
    start = ordered[-count - 1]
    excess = logs[-count:] - math.log(start)
    if not excess.mean() > 0:
        return plain
    shape = 1.0 / float(excess.mean())
    if _pareto(excess, shape) <= _lognormal(logs[-count:], math.log(start), mu, sigma):
        return plain
    return Lengths(
        mu=mu,
        sigma=sigma,
        least=least,
        most=most,
        tail_from=float(start),
        tail_share=count / len(ordered),
        tail_shape=shape,
    )


def draw_lengths(lengths: Lengths, count: int, *, seed: int) -> Floats:
    """`count` independent lengths; equal seeds draw equal ones."""
    return lengths.quantile(np.random.default_rng(seed).random(count))


def draw_pairs(
    first: Lengths, second: Lengths, correlation: float, count: int, *, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Pairs whose normal scores have that correlation (a Gaussian copula)."""
    scores = rng.standard_normal((2, count))
    other = correlation * scores[0] + math.sqrt(max(0.0, 1.0 - correlation**2)) * scores[1]
    return first.quantile(ndtr(scores[0])), second.quantile(ndtr(other))


def score_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Correlation of the normal scores of two rows of ranks; 0 where one does not vary."""
    if len(first) < 3 or min(first) == max(first) or min(second) == max(second):
        return 0.0
    one, other = (_scores(values) for values in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def _scores(values: Sequence[float]) -> Floats:
    """Normal scores of ranks; equal values have their mean rank."""
    asked = np.asarray(values, dtype=np.float64)
    _, places, counts = np.unique(asked, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[places]
    return np.asarray(ndtri(ranks / (len(asked) + 1)), dtype=np.float64)


def _pareto(excess: Floats, shape: float) -> float:
    """Log-likelihood of the logarithm's excess, which is exponential."""
    return len(excess) * math.log(shape) - shape * float(excess.sum())


def _lognormal(logs: Floats, start: float, mu: float, sigma: float) -> float:
    """Log-likelihood of logarithms, given that they are above `start`."""
    scores = (logs - mu) / sigma
    above = float(log_ndtr(-(start - mu) / sigma))
    density = -0.5 * scores**2 - math.log(sigma * math.sqrt(2 * math.pi))
    return float(density.sum()) - len(logs) * above
