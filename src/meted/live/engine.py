"""The seam to an inference engine, as it runs inside a replica's process."""

from dataclasses import dataclass
from typing import Protocol

from meted.domain.deployment import Task
from meted.domain.request import EngineRequest
from meted.domain.step import Step
from meted.domain.units import RequestId, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine says of itself once its weights are loaded.

    context_tokens: the most tokens of prompt and answer together. max_batch: requests that share
    a step.
    """

    task: Task
    context_tokens: Tokens
    max_batch: int


class Engine(Protocol):
    """An inference engine that is driven step by step and meters each step by request."""

    @property
    def facts(self) -> EngineFacts: ...

    def add(self, request: EngineRequest) -> Tokens:
        """Take a request into the batch; return the tokens of its prompt.

        Raises RequestRejectedError, naming the field, if it can never be answered.
        """
        ...

    def step(self) -> Step:
        """Run one batch iteration. A share for each request that had work done in it; an output
        for each request that has new text, vectors or an end."""
        ...

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; it takes part in no later step. Unknown ids are ignored."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a step would do any work."""
        ...
