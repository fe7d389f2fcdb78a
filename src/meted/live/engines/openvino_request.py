"""A request inside the pipeline, and what it has given so far."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from typing import Any

import openvino_genai as genai

from meted.domain.request import EngineRequest, FinishReason
from meted.live.engines.text_stream import StopHold


class Answering:
    """A request inside the engine, from its arrival to its end."""

    __slots__ = (
        "cached",
        "config",
        "detokenised",
        "finish",
        "generated",
        "handle",
        "hold",
        "id",
        "ids",
        "min_tokens",
    )

    def __init__(
        self, request: EngineRequest, ids: list[int], config: Any, detokenised: Any
    ) -> None:
        self.id = request.request_id
        self.ids = ids
        self.config = config
        self.handle: Any = None
        self.cached = 0
        self.generated = 0
        self.min_tokens = request.sampling.min_tokens
        self.finish: FinishReason | None = None
        self.detokenised = detokenised
        self.hold = StopHold(request.sampling.stop)

    def read(self) -> list[int]:
        """Tokens generated since the last call; sets `finish` if these are the last."""
        new: list[int] = []
        while self.handle.can_read() and self.finish is None:
            for output in self.handle.read().values():
                new += output.generated_ids
                if output.finish_reason != genai.GenerationFinishReason.NONE:
                    stop = output.finish_reason == genai.GenerationFinishReason.STOP
                    self.finish = FinishReason.STOP if stop else FinishReason.LENGTH
        if not new and self.handle.get_status() == genai.GenerationStatus.IGNORED:
            # The pipeline dropped it because the KV cache has no room left.
            self.finish = FinishReason.LENGTH
        self.generated += len(new)
        return new
