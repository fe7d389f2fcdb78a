"""Embeddings by an OpenVINO encoder: each step turns one batch of texts into vectors."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.request import (
    EmbeddingPrompt,
    EngineRequest,
    FinishReason,
    RequestRejectedError,
)
from meted.domain.step import Step, StepOutput, StepShare
from meted.domain.units import RequestId, Tokens
from meted.live.checkpoints.checkpoint import MODEL, read_checkpoint
from meted.live.checkpoints.embedding import Pooling, read_settings
from meted.live.checkpoints.facts import last_line
from meted.live.checkpoints.loading import load_tokenizer
from meted.live.engine import EngineFacts
from meted.live.engines.context import context_within

Ids = NDArray[np.int64]
Vector = tuple[float, ...]


@dataclass(slots=True)
class _Request:
    """A request's texts as tokens, those at `done` and after still to be computed."""

    id: RequestId
    texts: list[Ids]
    done: int = 0
    vectors: list[Vector] = field(default_factory=list[Vector])


class EmbeddingEngine:
    """An `Engine` over one converted encoder folder.

    max_batch: texts that share a step. Of the settings only context_tokens means something here.
    """

    def __init__(
        self,
        *,
        folder: Path,
        threads: int,
        max_batch: int,
        settings: EngineSettings | None = None,
    ) -> None:
        checkpoint = read_checkpoint(folder)
        self._settings = read_settings(folder)
        self._tokenizer = load_tokenizer(checkpoint)
        compiled: Any = openvino.Core().compile_model(
            str(folder / MODEL),
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False},
        )
        self._inputs = {name for one in compiled.inputs for name in one.get_names()}
        self._infer: Any = compiled.create_infer_request()
        self._facts = EngineFacts(
            task=Task.EMBED,
            context_tokens=Tokens(
                context_within(checkpoint, settings, keeps=checkpoint.context_tokens)
            ),
            max_batch=max_batch,
        )
        self._requests: deque[_Request] = deque()
        self._cancelled: list[RequestId] = []
        self._encode_batch([np.ones(8, dtype=np.int64)])

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def busy(self) -> bool:
        return bool(self._requests or self._cancelled)

    def add(self, request: EngineRequest) -> Tokens:
        """Tokenise and take a request in; see `Engine.add`."""
        if not isinstance(request.prompt, EmbeddingPrompt):
            raise RequestRejectedError(
                "this deployment makes embeddings; send text to one that generates", param="model"
            )
        texts = request.prompt.texts
        if not texts:
            raise RequestRejectedError("input is empty; send at least one text", param="input")
        tokens = [self._tokens(text, index) for index, text in enumerate(texts)]
        self._requests.append(_Request(request.request_id, tokens))
        return Tokens(sum(len(one) for one in tokens))

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; its end is reported by the next step."""
        kept = [one for one in self._requests if one.id != request_id]
        if len(kept) < len(self._requests):
            self._requests = deque(kept)
            self._cancelled.append(request_id)

    def step(self) -> Step:
        """Compute up to max_batch texts, oldest requests first; see `Engine.step`."""
        outputs = [
            StepOutput(request_id=one, finish_reason=FinishReason.CANCELLED)
            for one in self._cancelled
        ]
        self._cancelled.clear()
        batch: list[Ids] = []
        taken: list[tuple[_Request, int]] = []
        for request in self._requests:
            room = self._facts.max_batch - len(batch)
            texts = request.texts[request.done : request.done + room]
            if texts:
                batch += texts
                taken.append((request, len(texts)))
        vectors = iter(self._encode_batch(batch)) if batch else iter(())
        shares: list[StepShare] = []
        for request, count in taken:
            texts = request.texts[request.done : request.done + count]
            tokens = Tokens(sum(len(one) for one in texts))
            shares.append(
                StepShare(
                    request_id=request.id,
                    prefill_tokens=tokens,
                    cached_tokens=Tokens(0),
                    decode_tokens=Tokens(0),
                    context_tokens=tokens,
                )
            )
            request.vectors += [next(vectors) for _ in range(count)]
            request.done += count
            if request.done == len(request.texts):
                self._requests.remove(request)
                outputs.append(
                    StepOutput(
                        request_id=request.id,
                        finish_reason=FinishReason.STOP,
                        embeddings=tuple(request.vectors),
                    )
                )
        return Step(shares=tuple(shares), outputs=tuple(outputs))

    def _tokens(self, text: str, index: int) -> Ids:
        try:
            encoded = self._tokenizer.encode(text)
        except (RuntimeError, ValueError) as error:
            raise RequestRejectedError(
                f"input {index} cannot be turned into tokens: {last_line(error)}; send plain "
                "Unicode",
                param="input",
            ) from error
        ids: Ids = np.array(encoded.input_ids.data[0], dtype=np.int64)
        if len(ids) > self._facts.context_tokens:
            raise RequestRejectedError(
                f"This model's maximum context length is {self._facts.context_tokens} tokens. "
                f"However, input {index} resulted in {len(ids)} tokens. Please reduce its length.",
                param="input",
                code="context_length_exceeded",
            )
        return ids

    def _encode_batch(self, texts: Sequence[Ids]) -> list[Vector]:
        """One vector for each text, padded on the right to the longest."""
        width = max(len(one) for one in texts)
        ids = np.zeros((len(texts), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        self._infer.infer({name: value for name, value in feed.items() if name in self._inputs})
        hidden: NDArray[np.float32] = self._infer.get_output_tensor(0).data
        vectors = self._pool(hidden, mask)
        if self._settings.normalise:
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
        return [tuple(row) for row in vectors.astype(np.float64).tolist()]

    def _pool(self, hidden: NDArray[np.float32], mask: Ids) -> NDArray[np.float32]:
        match self._settings.pooling:
            case Pooling.MEAN:
                weights = mask[:, :, None].astype(np.float32)
                return (hidden * weights).sum(axis=1) / weights.sum(axis=1)
            case Pooling.CLS:
                return hidden[:, 0]
            case Pooling.LAST:
                return hidden[np.arange(len(mask)), mask.sum(axis=1) - 1]
