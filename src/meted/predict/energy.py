"""Energy of serving: joules of a step from how busy its devices are."""

import math
from dataclasses import dataclass

from meted.predict.estimate import Estimate
from meted.predict.roofline import Factors, StepParts, busy_micros, combine, ideal_step
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork

READING_POWER = 0.8
"""Part of the swing from idle to busy that a device draws while it reads memory or waits for a
link, where arithmetic draws all of it. From the mean power of Llama-2-70B decoding at batch 1 on
two A100 in Splitwise's perf_model.csv: 0.74 of the limit, its memory busy 86 % of the time."""

POWER_DOUBT = 0.15
"""Deviation of log power: benchmarks/splitwise.py finds a mean absolute error of 10 % over all
configurations with a reading, of both models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnergy:
    """Energy of one step on all its devices.

    watts: mean over the step, of all devices together. utilisation: share of the step in which the
    devices work. tokens: new ones that the step yields or reads, among which joules are shared.
    """

    joules: Estimate
    watts: float
    utilisation: float
    tokens: int

    @property
    def joules_per_token(self) -> Estimate:
        return self.joules.through(lambda value: value / max(1, self.tokens))


def step_energy(setup: Setup, work: StepWork, factors: Factors = Factors()) -> StepEnergy:
    """Energy of one step, given its factors; the interval is the power's at level 0.9, so a doubt
    of the step's time comes on top.

    joules = devices * (idle * t + swing * (arithmetic + READING_POWER * other busy time)).
    """
    parts = ideal_step(setup).parts(work)
    step = combine(parts, factors)
    busy = min(step, busy_micros(parts, factors))
    weighed = _weighed(parts, factors, busy)
    kind, devices = setup.kind, setup.algorithm.parallelism.devices
    watts = devices * (kind.watts_idle + (kind.watts_busy - kind.watts_idle) * weighed / step)
    joules = watts * step / 1e6
    reach = math.exp(1.645 * POWER_DOUBT)
    return StepEnergy(
        joules=Estimate(low=joules / reach, expected=joules, high=joules * reach),
        watts=watts,
        utilisation=busy / step,
        tokens=work.prefill_tokens + work.decode_tokens,
    )


def _weighed(parts: StepParts, factors: Factors, busy: float) -> float:
    """Busy microseconds, those that only read counted by the power that they draw."""
    arithmetic = min(busy, parts.compute / factors.compute)
    return arithmetic + READING_POWER * (busy - arithmetic)
