"""P for serving: step time and memory of a replica by its roofline, with calibrated factors."""

import math
from dataclasses import dataclass, replace

from meted.predict.ideal import LARGE_MESSAGE_BYTES, IdealStep, StepParts, ideal_step
from meted.predict.memory import replica_memory
from meted.predict.replica import ReplicaModel, StepTime
from meted.predict.setup import DoesNotFitError, Setup
from meted.predict.speculation import SpeculativeStep
from meted.predict.step_time import StepWork

__all__ = [
    "LARGE_MESSAGE_BYTES",
    "DoesNotFitError",
    "Factors",
    "IdealStep",
    "RooflineStep",
    "Setup",
    "StepParts",
    "busy_micros",
    "combine",
    "ideal_step",
    "predict_replica",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The few numbers that calibration fits for a model family, device kind and engine version.

    Shares of the ideal: compute of peak FLOP/s; memory of the bandwidth, for weights; cache of
    the bandwidth, for the KV cache; link of the link's bytes per second. spill: how many times
    over the bytes of a message above `LARGE_MESSAGE_BYTES` are paid again.
    Host times: fixed_micros of a step, serial to the device; prompt_micros more if it has prompt
    tokens; layer_micros to launch one layer, hidden while the device is slower; sequence_micros
    on the device for each token that is sampled; message_micros of each hop of a collective, on
    top of the link's latency: all devices wait for the slowest, so nothing hides it.
    """

    compute: float = 0.5
    memory: float = 0.7
    cache: float = 0.6
    link: float = 0.5
    spill: float = 0.7
    fixed_micros: float = 2_000.0
    prompt_micros: float = 1_000.0
    layer_micros: float = 50.0
    sequence_micros: float = 30.0
    message_micros: float = 5.0


def combine(parts: StepParts, factors: Factors) -> float:
    """Step time in microseconds from ideal parts and factors.

    t = stages * fixed + prompt + messages + max(launch, device), where device = wire + sequences
    + max(compute, memory) (roofline: Williams et al. 2009). The maxima are norms, the inner one
    of order 2, the outer of order 4: both stay convex and round the ridge, where kernels reach
    neither roof.
    """
    device = busy_micros(parts, factors)
    launch = parts.layers * factors.layer_micros
    return (
        parts.stages * factors.fixed_micros
        + parts.prompt * factors.prompt_micros
        + parts.delay
        + parts.hops * factors.message_micros
        + math.sqrt(math.hypot(launch * launch, device * device))
    )


def busy_micros(parts: StepParts, factors: Factors) -> float:
    """Microseconds of a step in which its devices compute, read or send."""
    return (
        math.hypot(
            parts.compute / factors.compute,
            parts.weights / factors.memory + parts.cache / factors.cache,
        )
        + (parts.wire + parts.spilled * factors.spill) / factors.link
        + parts.sequences * factors.sequence_micros
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineStep:
    """Step time of a setup with its factors. Convex in the tokens and context of dense models."""

    ideal: IdealStep
    factors: Factors

    def micros(self, work: StepWork) -> float:
        return combine(self.ideal.parts(work), self.factors)


def predict_replica(setup: Setup, factors: Factors = Factors()) -> ReplicaModel:
    """The replica that a setup makes, uncalibrated unless factors are given. With speculation its
    step is the time in which every sequence gains one token on average.

    Raises DoesNotFitError if the weights leave no room for one token's KV cache.
    """
    algorithm = setup.algorithm
    memory = replica_memory(setup)
    step: StepTime = RooflineStep(ideal=ideal_step(setup), factors=factors)
    if algorithm.speculation is not None:
        guess = algorithm.speculation
        draft = None
        if guess.draft is not None:
            draft = RooflineStep(
                ideal=ideal_step(replace(setup, architecture=guess.draft)), factors=factors
            )
        step = SpeculativeStep(
            target=step, draft=draft, tokens=guess.tokens, acceptance=guess.acceptance
        )
    return ReplicaModel(
        step=step,
        kv_tokens=memory.kv_tokens,
        chunk_tokens=algorithm.chunk_tokens,
        max_batch=algorithm.max_batch,
        prefix_hit=algorithm.prefix_hit,
        devices=algorithm.parallelism.devices,
        weight_bytes=int(memory.weights_everywhere),
    )
