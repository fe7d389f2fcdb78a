"""Drift: measured steps that a fit no longer explains, because the engine, a driver or the machine
changed. A pure change detector."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Steps whose median residual is one observation: stragglers and bursts shorter than half a block
leave no trace in it."""
UNIT = 0.05
"""Smallest deviation that a block's median is taken to have, of log time: what a fit of five
numbers misses from one mix of work to another."""
SLACK = 1.5
LIMIT = 6.0
CLIP = 4.0
LEARN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An alarm: steps take `factor` times what the fit says, since about `steps` steps."""

    factor: float
    steps: int


class DriftDetector:
    """A two-sided CUSUM (Page 1954) over the medians of blocks of log residuals.

    Each median is told in units of its own deviation, at least `UNIT`, and clipped. The sums grow
    by what lies beyond `SLACK` units and alarm above `LIMIT`: by Siegmund's approximation (1985)
    independent normal medians alarm once in 2e8 blocks, 7e9 steps; with deviation `UNIT`, a shift
    of the mean by less than 7.8 % never does. A lasting shift of 20 % alarms after 3 blocks, one of
    12 % after 8.
    """

    def __init__(self) -> None:
        self._up = 0.0
        self._down = 0.0
        self._variance = UNIT * UNIT
        self._blocks = 0

    @property
    def suspicion(self) -> float:
        """How far the sums have come to the alarm, 0 to 1."""
        return min(1.0, max(self._up, self._down) / LIMIT)

    def observe(self, residuals: NDArray[np.float64], doubt: float = 0.0) -> Drift | None:
        """A block of residuals, log of measured over predicted, oldest first.

        doubt: deviation of log that the fit itself has for such work; what it never saw is no
        drift.
        """
        middle = float(np.median(residuals))
        unit = math.sqrt(max(self._variance, UNIT * UNIT) + doubt * doubt)
        scaled = max(-CLIP, min(CLIP, middle / unit))
        self._up = max(0.0, self._up + scaled - SLACK)
        self._down = max(0.0, self._down - scaled - SLACK)
        self._variance += LEARN * ((scaled * unit) ** 2 - self._variance) if not doubt else 0.0
        self._blocks = self._blocks + 1 if max(self._up, self._down) > 0 else 0
        if max(self._up, self._down) < LIMIT:
            return None
        return Drift(factor=math.exp(middle), steps=self._blocks * len(residuals))

    def reset(self) -> None:
        """A new fit is believed from now on."""
        self._up = self._down = 0.0
        self._blocks = 0
