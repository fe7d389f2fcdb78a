"""Step time of an engine from what is in the batch, fitted to measured steps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import stdtrit

from meted.domain.step import TokenWork
from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Cost of a step, in microseconds: a fixed part, and a part for each unit of work.

    t = fixed + prefill * prefill_tokens + decode * decode_tokens + context * context_tokens
    + attention * attended, the shape that a roofline gives a batch: weights read once (fixed),
    FLOPs by token, KV cache read by context (Williams et al. 2009; Agrawal et al. 2024 measure the
    same shape for Sarathi). attention is the quadratic part of a prompt; 0 leaves it out.
    """

    fixed: float
    prefill: float
    decode: float
    context: float
    attention: float = 0.0

    def micros(self, work: "StepWork") -> float:
        """Predicted time of a whole step in microseconds."""
        return (
            self.fixed
            + self.prefill * work.prefill_tokens
            + self.decode * work.decode_tokens
            + self.context * work.context_tokens
            + self.attention * work.attended
        )


def scaled(cost: StepCost, factor: float) -> StepCost:
    """Every part of a cost, `factor` times."""
    return StepCost(
        fixed=cost.fixed * factor,
        prefill=cost.prefill * factor,
        decode=cost.decode * factor,
        context=cost.context * factor,
        attention=cost.attention * factor,
    )


PRIOR = StepCost(fixed=10_000.0, prefill=300.0, decode=1_500.0, context=1.0)
"""Wall time, before anything is measured: a 135M model on two cores, within a factor of three."""

DEVICE_PRIOR = StepCost(fixed=20_000.0, prefill=600.0, decode=3_000.0, context=2.0, attention=0.2)
"""Device time, before anything is measured: `PRIOR` on both cores; attention by its FLOPs, which
are 1/3000 of a prompt token's for each token that it attends to (30 layers, width 576)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What a whole step had to compute.

    context_tokens: read by the requests that only decode. attended: pairs of a prompt token
    computed now and a token before it.
    """

    prefill_tokens: int
    decode_tokens: int
    context_tokens: int
    attended: int = 0


def work_of(shares: Iterable[TokenWork]) -> StepWork:
    """The sum over the requests in a step."""
    prefill = decode = context = attended = 0
    for share in shares:
        tokens = share.prefill_tokens
        decode += share.decode_tokens
        if tokens:
            prefill += tokens
            attended += tokens * max(0, 2 * share.context_tokens - tokens) // 2
        else:
            context += share.context_tokens
    return StepWork(
        prefill_tokens=prefill, decode_tokens=decode, context_tokens=context, attended=attended
    )


def marginal_micros(cost: StepCost, share: TokenWork) -> float:
    """Predicted time that one request adds to a step, without the fixed part.

    A chunk of n prompt tokens that ends at context c attends to n * (c - n / 2) tokens.
    """
    tokens = share.prefill_tokens
    if tokens:
        each = cost.prefill + cost.attention * max(0.0, share.context_tokens - tokens / 2)
        return cost.decode * share.decode_tokens + each * tokens
    return cost.decode * share.decode_tokens + cost.context * share.context_tokens


FAINT = 0.01
"""Weight of a prior that is a guess, beside one measured step."""
NOISE = 0.05
"""Deviation of log time that a step is taken to have beside the fit, until steps tell."""
NOISE_STEPS = 4
"""Steps that this belief about the noise is worth."""


class StepTimeFit:
    """Non-negative least squares over the last measured steps, with the prior as weak evidence.

    window: steps remembered. refit: a new fit every so many steps, because a fit costs about
    100 us. trust: the prior's weight beside one step; `NOISE` over the prior's own deviation.
    Attention is fitted if the prior has it.
    """

    def __init__(
        self,
        *,
        prior: StepCost = PRIOR,
        trust: float = FAINT,
        window: int = 512,
        refit: int = 64,
    ) -> None:
        self._seen = np.zeros((window, 6))
        self._prior = prior
        self._trust = trust
        self._refit = refit
        self._since = 0
        self.cost = prior
        self.samples = 0

    def observe(self, work: StepWork, micros: float) -> None:
        """One measured step, in microseconds of whatever clock this fit is about."""
        self._seen[self.samples % len(self._seen)] = (
            *(1.0, work.prefill_tokens, work.decode_tokens, work.context_tokens),
            *(work.attended, max(micros, 1.0)),
        )
        self.samples += 1
        self._since += 1
        if self._since >= self._refit or self.samples in (8, 16, 32):
            self._since = 0
            self.cost = fit(self._seen[: self.samples], self._prior, self._trust)

    def last(self, count: int) -> NDArray[np.float64]:
        """Rows of the last steps, as `fit` takes them, oldest first."""
        count = min(count, self.samples, len(self._seen))
        places = np.arange(self.samples - count, self.samples) % len(self._seen)
        return self._seen[places]

    def fitted(self) -> "FittedCost":
        """What the fit believes now, with its doubt. About 50 us."""
        rows = self._seen[: self.samples]
        return doubted(rows, self.cost, prior=self._prior, trust=self._trust)


def _terms(cost: StepCost) -> NDArray[np.float64]:
    return np.array([cost.fixed, cost.prefill, cost.decode, cost.context, cost.attention])


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCost:
    """A cost with the covariance of its terms, and the deviation of log time beside it.

    steps: measured steps behind it.
    """

    cost: StepCost
    covariance: NDArray[np.float64]
    noise: float
    steps: int

    def predict(self, work: StepWork, level: float = 0.9) -> Estimate:
        """A step's time in microseconds, with the interval that holds a measured one at `level`.

        Log-normal, Student's t: the doubt of the terms for this work, and the noise of steps.
        """
        middle = max(1.0, self.cost.micros(work))
        row = np.array(
            [
                *(1.0, work.prefill_tokens, work.decode_tokens, work.context_tokens),
                work.attended if self.cost.attention else 0.0,
            ]
        )
        variance = float(row @ self.covariance @ row) / middle**2
        spread = math.sqrt(variance + self.noise**2)
        reach = float(stdtrit(self.steps + NOISE_STEPS, (1 + level) / 2)) * spread
        reach = min(reach, 5.0)
        return Estimate(
            low=middle * math.exp(-reach),
            expected=middle,
            high=middle * math.exp(reach),
            level=level,
        )

    def residuals(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of measured over predicted for steps in `fit`'s rows."""
        return np.log(rows[:, 5] / np.maximum(rows[:, :5] @ _terms(self.cost), 1.0))

    def doubt(self, rows: NDArray[np.float64]) -> float:
        """Deviation of log time that the terms have for the median of these steps."""
        work = rows[:, :5]
        squares = np.einsum("ij,jk,ik->i", work, self.covariance, work)
        predicted = np.maximum(work @ _terms(self.cost), 1.0)
        return float(np.median(np.sqrt(np.maximum(squares, 0.0)) / predicted))


def doubted(
    rows: NDArray[np.float64], cost: StepCost, *, prior: StepCost, trust: float
) -> FittedCost:
    """The doubt of a cost that was fitted to rows: the usual covariance of least squares in
    relative errors, with the prior's rows, and the residuals' variance."""
    used = 5 if prior.attention else 4
    table = rows[:, :used] / rows[:, 5:]
    values = np.maximum(_terms(prior)[:used], 1e-9)
    errors = 1 - table @ _terms(cost)[:used]
    # Half of the steps tell the noise: stragglers, which are rare and long, are none of it.
    usual = float(np.median(np.abs(errors))) * 1.4826 if len(rows) else 0.0
    count = NOISE_STEPS + len(rows)
    variance = (NOISE_STEPS * NOISE**2 + len(rows) * usual**2) / count
    scaled = table * values
    precision = scaled.T @ scaled + np.eye(used) * trust**2
    covariance = np.zeros((5, 5))
    covariance[:used, :used] = variance * np.linalg.inv(precision) * np.outer(values, values)
    return FittedCost(cost=cost, covariance=covariance, noise=math.sqrt(variance), steps=len(rows))


def fit(seen: NDArray[np.float64], prior: StepCost, trust: float = FAINT) -> StepCost:
    """The non-negative cost that explains measured steps best, relative error weighed equally.

    seen: a row for each step: 1, prefill tokens, decode tokens, context tokens, attended pairs,
    microseconds. The prior enters as observations of weight `trust`, so that a unit of work that
    was never seen keeps its prior cost instead of becoming free.
    """
    values = [prior.fixed, prior.prefill, prior.decode, prior.context]
    if prior.attention:
        values.append(prior.attention)
    measured: NDArray[Any] = seen[:, : len(values)] / seen[:, 5:]
    table = np.vstack([measured, np.diag([trust / value for value in values])])
    target = np.concatenate([np.ones(len(seen)), np.full(len(values), trust)])
    scale = table.max(axis=0)
    solution = nnls(table / scale, target)[0] / scale
    fixed, prefill, decode, context, *attention = (float(one) for one in solution)
    return StepCost(
        fixed=fixed,
        prefill=prefill,
        decode=decode,
        context=context,
        attention=attention[0] if attention else 0.0,
    )
