"""How much of a class of requests one replica holds inside the limits, before any queue."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.units import MICROS_PER_SECOND
from meted.policy.fleet.traffic import Bucket
from meted.policy.fleet.wish import LatencyLimit, Metric
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork

TAIL = 0.9
"""A limit on this quantile or a higher one must hold in steps with a full chunk too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Micros that a request takes on a replica that serves no one else, but for `tpot`, which is
    that of steps with a full chunk of somebody's prompt where the limit is on a tail."""

    ttft: float
    tpot: float
    e2e: float

    def of(self, metric: Metric) -> float:
        return {Metric.TTFT: self.ttft, Metric.TPOT: self.tpot, Metric.E2E: self.e2e}[metric]


def computed_tokens(replica: ReplicaModel, bucket: Bucket) -> float:
    """Prompt tokens of a request that are not in the prefix cache."""
    return max(1.0, bucket.prompt_tokens * (1 - replica.prefix_hit))


def prompt_pairs(replica: ReplicaModel, bucket: Bucket) -> float:
    """Pairs of a computed prompt token and a token before it."""
    tokens = computed_tokens(replica, bucket)
    return tokens * (max(tokens, bucket.prompt_tokens) - tokens / 2)


def batch_step(replica: ReplicaModel, bucket: Bucket, batch: float, *, chunk: bool) -> float:
    """Micros of a step in which `batch` requests of the class decode.

    In a steady state each of them brings 1 / output_tokens of a new prompt into the step; with
    `chunk` the step holds as much of the prompts as it can.
    """
    prompts = batch / max(1.0, bucket.output_tokens)
    tokens = computed_tokens(replica, bucket)
    if chunk:
        prompts = max(prompts, replica.chunk_tokens / tokens)
    return replica.step.micros(
        StepWork(
            prefill_tokens=round(prompts * tokens),
            decode_tokens=round(batch),
            context_tokens=round(batch * (bucket.prompt_tokens + bucket.output_tokens / 2)),
            attended=round(prompts * prompt_pairs(replica, bucket)),
        )
    )


def alone(replica: ReplicaModel, bucket: Bucket, *, tail: bool) -> Alone:
    """What the class feels on a replica of its own. tail: the limit on TPOT is on its tail."""
    tokens = computed_tokens(replica, bucket)
    steps = math.ceil(tokens / replica.chunk_tokens)
    ttft = steps * replica.step.micros(
        StepWork(
            prefill_tokens=round(tokens / steps),
            decode_tokens=0,
            context_tokens=0,
            attended=round(prompt_pairs(replica, bucket) / steps),
        )
    )
    decode = replica.step.micros(
        StepWork(
            prefill_tokens=0,
            decode_tokens=1,
            context_tokens=round(bucket.prompt_tokens + bucket.output_tokens / 2),
        )
    )
    full = batch_step(replica, bucket, 1.0, chunk=True) if tail else decode
    e2e = ttft + (bucket.output_tokens - 1) * decode
    return Alone(ttft=ttft, tpot=full if bucket.output_tokens > 1 else 0.0, e2e=e2e)


def largest_rate(
    replica: ReplicaModel, bucket: Bucket, limits: Sequence[LatencyLimit], *, strict: bool = True
) -> float | None:
    """Arrivals per second of the class alone that one replica holds, None if not even one.

    strict: a limit on TPOT's tail must hold in steps with a full chunk of prompts. Without it the
    mean step must, and the replay alone tells about the tail.

    With `batch` requests decoding, Little's law gives the rate batch / (output * step time), and
    the step time follows from the batch and from the prompts that this rate brings in. The batch
    grows until the chunk, the KV cache, the engine or a latency limit stops it. No queue yet: what
    waiting adds to TTFT is the headroom's part (`headroom.py`).
    """
    held = bucket.prompt_tokens + bucket.output_tokens
    if held > replica.kv_tokens:
        return None
    tail = strict and has_tail(limits)
    lone = alone(replica, bucket, tail=tail)
    if any(lone.of(limit.metric) > limit.micros for limit in limits):
        return None
    longest = step_limit(bucket, limits, lone)
    output = max(1.0, bucket.output_tokens)
    most = min(
        float(replica.max_batch),
        replica.kv_tokens / held,
        replica.chunk_tokens * output / computed_tokens(replica, bucket),
    )
    batch = _largest_batch(replica, bucket, most=most, longest=longest, tail=tail)
    if batch <= 0:
        return None
    return batch * MICROS_PER_SECOND / (output * batch_step(replica, bucket, batch, chunk=False))


def has_tail(limits: Sequence[LatencyLimit]) -> bool:
    """Whether TPOT is limited on its tail."""
    return any(one.metric is Metric.TPOT and (one.quantile or 0) >= TAIL for one in limits)


def step_limit(bucket: Bucket, limits: Sequence[LatencyLimit], lone: Alone) -> float:
    """Micros that a step may take so that TPOT and E2E hold; infinite without such limits."""
    longest = math.inf
    for limit in limits:
        if limit.metric is Metric.TPOT and bucket.output_tokens > 1:
            longest = min(longest, limit.micros)
        elif limit.metric is Metric.E2E:
            longest = min(longest, (limit.micros - lone.ttft) / max(1.0, bucket.output_tokens - 1))
    return longest


def _largest_batch(
    replica: ReplicaModel, bucket: Bucket, *, most: float, longest: float, tail: bool
) -> float:
    """The largest batch, up to `most`, whose step takes at most `longest` micros; 0 if none."""

    def holds(batch: float) -> bool:
        return batch_step(replica, bucket, batch, chunk=tail) <= longest

    if math.isinf(longest) or holds(most):
        return most
    low, high = 0.0, most
    while high - low > 0.02 * high and high > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
