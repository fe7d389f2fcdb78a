"""What a replica is to queueing, replay and planning: a step time and a memory."""

from dataclasses import dataclass
from typing import Protocol

from meted.predict.step_time import StepWork


class StepTime(Protocol):
    """Time of one engine step from what is in the batch, in microseconds."""

    def micros(self, work: StepWork) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaModel:
    """A replica as its scheduler sees it.

    kv_tokens: tokens that its KV cache holds. chunk_tokens: most tokens of a step. max_batch: most
    requests at once. prefix_hit: share of prompt tokens that need no computing. devices: how many
    it occupies. weight_bytes: on all of them together.
    """

    step: StepTime
    kv_tokens: int
    chunk_tokens: int
    max_batch: int
    prefix_hit: float = 0.0
    devices: int = 1
    weight_bytes: int = 0
