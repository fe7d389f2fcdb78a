"""Step time of an engine from what is in the batch, fitted to measured steps."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from meted.domain.step import TokenWork


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Linear cost of a step, in microseconds: a fixed part, and a part for each unit of work.

    t = fixed + prefill * prefill_tokens + decode * decode_tokens + context * context_tokens, the
    shape that a roofline gives a batch: weights read once (fixed), FLOPs by token, KV cache read
    by context (Williams et al. 2009; Agrawal et al. 2024 measure the same shape for Sarathi).
    """

    fixed: float
    prefill: float
    decode: float
    context: float


PRIOR = StepCost(fixed=10_000.0, prefill=300.0, decode=1_500.0, context=1.0)
"""Before anything is measured: a 135M model on two cores, within a factor of three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What a whole step had to compute."""

    prefill_tokens: int
    decode_tokens: int
    context_tokens: int


def work_of(shares: Iterable[TokenWork]) -> StepWork:
    """The sum over the requests in a step; only decoding reads context beyond its own prompt."""
    prefill = decode = context = 0
    for share in shares:
        prefill += share.prefill_tokens
        decode += share.decode_tokens
        context += share.context_tokens
    return StepWork(prefill_tokens=prefill, decode_tokens=decode, context_tokens=context)


def marginal_micros(cost: StepCost, share: TokenWork) -> float:
    """Predicted time that one request adds to a step, without the fixed part."""
    return (
        cost.prefill * share.prefill_tokens
        + cost.decode * share.decode_tokens
        + cost.context * share.context_tokens
    )


def step_micros(cost: StepCost, work: StepWork) -> float:
    """Predicted time of a whole step in microseconds."""
    return (
        cost.fixed
        + cost.prefill * work.prefill_tokens
        + cost.decode * work.decode_tokens
        + cost.context * work.context_tokens
    )


class StepTimeFit:
    """Non-negative least squares over the last measured steps, with the prior as weak evidence.

    window: steps remembered. refit: a new fit every so many steps, because a fit costs about
    100 us. Residuals give the interval of a prediction.
    """

    def __init__(self, *, prior: StepCost = PRIOR, window: int = 512, refit: int = 64) -> None:
        self._seen: deque[tuple[StepWork, int]] = deque(maxlen=window)
        self._prior = prior
        self._refit = refit
        self._since = 0
        self.cost = prior
        self.samples = 0

    def observe(self, work: StepWork, duration_us: int) -> None:
        """One measured step."""
        self._seen.append((work, duration_us))
        self.samples += 1
        self._since += 1
        if self._since >= self._refit or self.samples in (8, 16, 32):
            self._since = 0
            self.cost = fit(self._seen, self._prior)

    def relative_errors(self) -> list[float]:
        """Measured over predicted for each remembered step, in the order seen."""
        return [duration / max(1.0, step_micros(self.cost, work)) for work, duration in self._seen]


def fit(seen: Iterable[tuple[StepWork, int]], prior: StepCost) -> StepCost:
    """The non-negative cost that explains measured steps best, relative error weighed equally.

    The prior enters as four faint observations, so that a unit of work that was never seen keeps
    its prior cost instead of becoming free.
    """
    rows: list[list[float]] = []
    for work, duration in seen:
        weight = 1.0 / max(duration, 1)
        rows.append(
            [
                weight,
                weight * work.prefill_tokens,
                weight * work.decode_tokens,
                weight * work.context_tokens,
                1.0,
            ]
        )
    faint = 0.01
    for index, value in enumerate((prior.fixed, prior.prefill, prior.decode, prior.context)):
        row = [0.0] * 5
        row[index] = faint / value
        row[4] = faint
        rows.append(row)
    table = np.array(rows)
    scale = table[:, :4].max(axis=0)
    scale[scale == 0] = 1.0
    solution = nnls(table[:, :4] / scale, table[:, 4])[0] / scale
    return StepCost(
        fixed=float(solution[0]),
        prefill=float(solution[1]),
        decode=float(solution[2]),
        context=float(solution[3]),
    )
