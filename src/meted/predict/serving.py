"""What clients will feel: TTFT and TPOT of a deployment under load, with or without a trainer."""

import math
from dataclasses import dataclass

from meted.domain.allocation import Harvest, PredictedServing
from meted.domain.units import Micros
from meted.predict.step_time import StepCost, StepWork, scaled

PRIOR_SLOWDOWN = {Harvest.NONE: 1.0, Harvest.GAPS: 1.05, Harvest.IDLE: 1.25, Harvest.SHARE: 2.0}
"""Step time beside a trainer over step time alone, before it is measured in this house.

`gaps` and `idle` are near what benchmarks/corun.py measured on two x86 cores (2026-11-23,
docs/benchmarks.md); `share` is a guess. About a hundred measured steps replace each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a deployment's clients send and how the engine batches it.

    chunk_tokens: most prompt tokens in one step.
    """

    arrivals_per_second: float
    prompt_tokens: float
    output_tokens: float
    chunk_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """Measured step time under one way of harvesting over the fitted one; samples behind it."""

    harvest: Harvest
    factor: float
    samples: int


def _prefill(cost: StepCost, load: Load) -> float:
    """Micros of a prompt beyond the fixed part of its steps."""
    prompt = load.prompt_tokens
    return cost.prefill * prompt + cost.attention * prompt * prompt / 2


def service_seconds(cost: StepCost, load: Load, batch: float) -> float:
    """Engine time that one request takes up when `batch` requests share each decode step.

    Prefill in chunks, then output_tokens decode steps whose cost is shared by the batch.
    """
    batch = max(1.0, batch)
    prefill = _prefill(cost, load)
    context = load.prompt_tokens + load.output_tokens / 2
    decode = load.output_tokens * (cost.fixed / batch + cost.decode + cost.context * context)
    return (prefill + cost.fixed + decode) / 1e6


def utilisation(cost: StepCost, load: Load) -> float:
    """Share of time in which the engine has work, at most 1.

    Little's law closes the loop between batch and service time: more load makes larger batches,
    which make each request cheaper. A few rounds of the fixed point suffice.
    """
    batch = 1.0
    busy = 0.0
    for _ in range(8):
        busy = min(1.0, load.arrivals_per_second * service_seconds(cost, load, batch))
        in_system = busy / (1 - busy) if busy < 0.95 else 16.0
        batch = max(1.0, min(16.0, 0.5 * batch + 0.5 * in_system))
    return busy


def predict_serving(cost: StepCost, load: Load, slowdown: Slowdown) -> PredictedServing:
    """95th percentiles of TTFT and TPOT under a load, with steps slowed down by a trainer.

    TTFT: the wait has the exponential tail of M/M/1, W95 = ln(20 rho) * T / (1 - rho) for
    rho > 0.05, where T is the prefill a newcomer can meet, plus one running decode step and the
    own prefill. TPOT: one decode step of the batch in the system, with the share of prefill chunks
    that other arrivals push between. Valid below saturation;
    at rho >= 0.98 the wait is that of 0.98.
    """
    factor = slowdown.factor
    slowed = scaled(cost, factor)
    rho = min(0.98, utilisation(slowed, load))
    batch = min(16.0, max(1.0, rho / (1 - rho)))
    chunks = max(1.0, math.ceil(load.prompt_tokens / load.chunk_tokens))
    prefill = _prefill(slowed, load) + slowed.fixed * chunks
    context = load.prompt_tokens + load.output_tokens / 2
    decode_step = slowed.micros(
        StepWork(
            prefill_tokens=0, decode_tokens=round(batch), context_tokens=round(batch * context)
        ),
    )
    prefill_load = min(0.98, load.arrivals_per_second * prefill / 1e6)
    wait = math.log(max(1.0, 20 * rho)) * prefill / (1 - prefill_load)
    return PredictedServing(
        harvest=slowdown.harvest,
        ttft_p95=Micros(round(wait + rho * decode_step + prefill)),
        tpot_p95=Micros(round(decode_step / (1 - prefill_load))),
        samples=slowdown.samples,
    )
