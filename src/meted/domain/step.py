"""A step: one batch iteration of an engine, or one phase of a trainer; the meter's raw reading."""

from dataclasses import dataclass
from typing import Protocol

from meted.domain.request import FinishReason
from meted.domain.units import DeviceNanos, Micros, RequestId, Tokens


class TokenWork(Protocol):
    """One request's part of a step, in whatever form it is carried (`StepShare`, or on a wire)."""

    @property
    def prefill_tokens(self) -> int: ...
    @property
    def decode_tokens(self) -> int: ...
    @property
    def context_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShare:
    """What one request had computed in one step.

    prefill_tokens: prompt tokens computed now. cached_tokens: prompt tokens found in the prefix
    cache, reported once, in the request's first step. decode_tokens: tokens generated now.
    context_tokens: length of prompt and answer so far, which attention reads.
    """

    request_id: RequestId
    prefill_tokens: Tokens
    cached_tokens: Tokens
    decode_tokens: Tokens
    context_tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What a request's client gets from one step: new text or vectors, and perhaps the end."""

    request_id: RequestId
    text: str = ""
    finish_reason: FinishReason | None = None
    embeddings: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an engine says of one step; the worker around it reads the clocks.

    recalled: its answers were kept ones, so that its tokens are usage and no work.
    """

    shares: tuple[StepShare, ...]
    outputs: tuple[StepOutput, ...]
    cache_usage: float = 0.0
    recalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReading:
    """The clocks around one step of a worker.

    started, duration: wall time. cpu_start, cpu_end: the worker's own cumulative CPU clock, so
    that consecutive readings cover it without gap or overlap.
    """

    started: Micros
    duration: Micros
    cpu_start: DeviceNanos
    cpu_end: DeviceNanos
