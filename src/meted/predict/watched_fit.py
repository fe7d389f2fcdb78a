"""A fit of step times that notices when it no longer holds, and then begins anew."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meted.predict.drift import BLOCK, Drift, DriftDetector
from meted.predict.step_time import (
    FAINT,
    NOISE,
    PRIOR,
    FittedCost,
    StepCost,
    StepTimeFit,
    StepWork,
    doubted,
    scaled,
)

SETTLED_STEPS = 128
"""Steps after which a fit that began with a guess is something to drift from."""
RENEW_STEPS = 512
"""While nothing is suspicious, what is believed is renewed this often: slow change is learnt, not
alarmed at."""
BELIEVED_DEVIATION = 0.25
"""A prior with less deviation of log than this is believed from the first step on."""
AFTER_DRIFT = 0.5
"""Deviation of log of what is still believed after a drift."""


class WatchedFit:
    """`StepTimeFit` with a drift detector against what was believed before the last steps.

    deviation: of the prior's log, None for a guess.
    """

    def __init__(self, *, prior: StepCost = PRIOR, deviation: float | None = None) -> None:
        self._detector = DriftDetector()
        self._unseen = 0
        self._since_renewed = 0
        self._drifts = 0
        self._start(prior, deviation)

    def _start(self, prior: StepCost, deviation: float | None) -> None:
        trust = FAINT if deviation is None else max(FAINT, NOISE / deviation)
        # A part that costs nothing in the prior could never be learnt.
        floor = 1e-6 * max(1.0, prior.fixed)
        prior = replace(
            prior,
            fixed=max(prior.fixed, floor),
            prefill=max(prior.prefill, floor),
            decode=max(prior.decode, floor),
            context=max(prior.context, floor),
        )
        self._fit = StepTimeFit(prior=prior, trust=trust)
        self._believed: FittedCost | None = None
        if deviation is not None and deviation < BELIEVED_DEVIATION:
            self._believed = doubted(np.zeros((0, 6)), prior, prior=prior, trust=trust)

    @property
    def cost(self) -> StepCost:
        return self._fit.cost

    @property
    def samples(self) -> int:
        return self._fit.samples

    @property
    def drifts(self) -> int:
        """Alarms so far."""
        return self._drifts

    @property
    def suspicion(self) -> float:
        """How near the next alarm is, 0 to 1."""
        return self._detector.suspicion

    def fitted(self) -> FittedCost:
        """What is believed now, with its doubt."""
        return self._fit.fitted()

    def last(self, count: int) -> Sequence[tuple[StepWork, float]]:
        """The last steps and their microseconds, oldest first."""
        return [_step(row) for row in self._fit.last(count)]

    def observe(self, work: StepWork, micros: float) -> Drift | None:
        """One measured step; an alarm if the steps are no longer what was believed."""
        self._fit.observe(work, micros)
        self._unseen += 1
        self._since_renewed += 1
        if self._unseen < BLOCK:
            return None
        self._unseen = 0
        drift = None
        if self._believed is not None:
            rows = self._fit.last(BLOCK)
            drift = self._detector.observe(
                self._believed.residuals(rows), self._believed.doubt(rows)
            )
        if drift is not None:
            self._forget(drift)
        elif self._may_renew():
            self._believed = self._fit.fitted()
            self._since_renewed = 0
        return drift

    def _may_renew(self) -> bool:
        if self._detector.suspicion > 0:
            return False
        due = SETTLED_STEPS if self._believed is None else RENEW_STEPS
        return self._fit.samples >= SETTLED_STEPS and self._since_renewed >= due

    def _forget(self, drift: Drift) -> None:
        """Begin anew from the old belief, moved by what was seen and widened."""
        assert self._believed is not None
        # The block in which it began holds steps from before.
        old, rows = self._believed.cost, self._fit.last(max(BLOCK, drift.steps - BLOCK))
        self._drifts += 1
        self._detector.reset()
        self._since_renewed = 0
        self._start(scaled(old, drift.factor), AFTER_DRIFT)
        for row in rows:
            self._fit.observe(*_step(row))


def _step(row: NDArray[np.float64]) -> tuple[StepWork, float]:
    """A row of a fit as the step that it was."""
    prefill, decode, context, attended = (round(one) for one in row[1:5].tolist())
    work = StepWork(
        prefill_tokens=prefill, decode_tokens=decode, context_tokens=context, attended=attended
    )
    return work, float(row[5])
