"""Text generation by OpenVINO GenAI's continuous batching, driven and metered step by step."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.request import EngineRequest, FinishReason, RequestRejectedError
from meted.domain.step import Step, StepOutput, StepShare
from meted.domain.units import RequestId, Tokens
from meted.live.checkpoints.checkpoint import read_checkpoint
from meted.live.checkpoints.facts import last_line
from meted.live.checkpoints.loading import load_tokenizer
from meted.live.engine import EngineFacts
from meted.live.engines.context import answer_tokens, context_within
from meted.live.engines.detokenise import choose_detokeniser
from meted.live.engines.openvino_pipeline import BLOCK_TOKENS, make_pipeline, propose, warm_up
from meted.live.engines.openvino_request import Answering
from meted.live.engines.prefix_mirror import PrefixMirror
from meted.live.engines.prompt import encode_prompt
from meted.live.engines.sampling import end_tokens, generation_config, read_recommended


class OpenVinoEngine:
    """An `Engine` over one converted checkpoint folder.

    More requests than max_batch wait inside, unmetered. With speculation a step gives a request
    several tokens, each of which counts; proposed tokens that were not accepted are work of the
    step and no tokens of anybody. A draft's own reading of the prompt is work of the same kind.
    """

    def __init__(
        self,
        *,
        folder: Path,
        threads: int,
        max_batch: int,
        settings: EngineSettings | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        checkpoint = read_checkpoint(folder)
        self._tokenizer = load_tokenizer(checkpoint)
        self._detokeniser = choose_detokeniser(self._tokenizer)
        self._recommended = read_recommended(folder)
        self._ends = end_tokens(self._recommended, self._tokenizer)
        self._speculation = settings.speculation
        self._pipeline: Any = make_pipeline(
            folder, self._tokenizer, threads=threads, max_batch=max_batch, settings=settings
        )
        self._count = 0
        blocks = warm_up(self._pipeline, settings)
        self._mirror = PrefixMirror(
            batch_tokens=settings.chunk_tokens,
            block_tokens=BLOCK_TOKENS,
            blocks=blocks,
            caching=settings.prefix_cache,
        )
        context = context_within(checkpoint, settings, keeps=(blocks - 1) * BLOCK_TOKENS)
        self._facts = EngineFacts(
            task=Task.GENERATE, context_tokens=Tokens(context), max_batch=max_batch
        )
        self._waiting: deque[Answering] = deque()
        self._running: dict[RequestId, Answering] = {}
        self._cancelled: list[RequestId] = []

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def busy(self) -> bool:
        return bool(
            self._running
            or self._waiting
            or self._cancelled
            or self._pipeline.has_non_finished_requests()
        )

    def add(self, request: EngineRequest) -> Tokens:
        """Tokenise and take a request in; see `Engine.add`."""
        ids = encode_prompt(self._tokenizer, request, context=self._facts.context_tokens)
        config = self._config(request, len(ids))
        self._waiting.append(Answering(request, ids, config, self._detokeniser.begin()))
        return Tokens(len(ids))

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; its end is reported by the next step."""
        running = self._running.pop(request_id, None)
        if running is not None:
            running.handle.cancel()
            self._mirror.end(request_id)
        else:
            found = [one for one in self._waiting if one.id == request_id]
            if not found:
                return
            self._waiting.remove(found[0])
        self._cancelled.append(request_id)

    def step(self) -> Step:
        """One batch iteration; see `Engine.step`."""
        self._submit()
        outputs = [
            StepOutput(request_id=one, finish_reason=FinishReason.CANCELLED)
            for one in self._cancelled
        ]
        self._cancelled.clear()
        self._mirror.schedule()
        self._pipeline.step()
        shares: list[StepShare] = []
        fresh: list[tuple[Answering, list[int]]] = []
        for request in self._running.values():
            new = request.read()
            share = self._share(request, new)
            if share is not None:
                shares.append(share)
            if new:
                fresh.append((request, new))
            if new or request.finish is not None:
                outputs.append(StepOutput(request_id=request.id))
        texts = self._detokeniser.texts([(one.detokenised, new) for one, new in fresh])
        text_of = {one.id: text for (one, _), text in zip(fresh, texts, strict=True)}
        usage = self._mirror.usage
        kept = [self._output(one.request_id, text_of, one) for one in outputs]
        return Step(
            shares=tuple(shares),
            outputs=tuple(one for one in kept if one.text or one.finish_reason is not None),
            cache_usage=usage,
        )

    def _submit(self) -> None:
        """Hand waiting requests to the pipeline while the batch has room."""
        while self._waiting and len(self._running) < self._facts.max_batch:
            request = self._waiting.popleft()
            ids = openvino.Tensor(np.asarray([request.ids], dtype=np.int64))
            self._count += 1
            request.handle = self._pipeline.add_request(self._count, ids, request.config)
            request.cached = self._mirror.add(request.id, request.ids)
            self._running[request.id] = request

    def _share(self, request: "Answering", new: Sequence[int]) -> StepShare | None:
        work = self._mirror.settle(request.id, new)
        cached, request.cached = request.cached + work.cached, 0
        if not (work.computed or cached or new):
            return None
        return StepShare(
            request_id=request.id,
            prefill_tokens=Tokens(work.computed),
            cached_tokens=Tokens(cached),
            decode_tokens=Tokens(len(new)),
            context_tokens=Tokens(self._mirror.context(request.id)),
        )

    def _output(
        self, request_id: RequestId, texts: dict[RequestId, str], output: StepOutput
    ) -> StepOutput:
        """The output with its text; ends the request if it stopped."""
        request = self._running.get(request_id)
        if request is None:
            return output
        text, finish = texts.get(request_id, ""), request.finish
        if request.generated < request.min_tokens:
            # Stop strings count only from min_tokens on.
            text = request.hold.flush() + text
        else:
            text = request.hold.push(text)
            if request.hold.stopped:
                if finish is None:
                    request.handle.cancel()
                finish = FinishReason.STOP
            elif finish is not None:
                text += request.hold.flush()
        if finish is not None:
            del self._running[request_id]
            self._mirror.end(request_id)
        return StepOutput(request_id=request_id, text=text, finish_reason=finish)

    def _config(self, request: EngineRequest, prompt_tokens: int) -> Any:
        sampling = request.sampling
        wanted = answer_tokens(
            sampling.max_tokens, prompt=prompt_tokens, context=self._facts.context_tokens
        )
        sampling = self._recommended.complete(sampling)
        config = generation_config(sampling, max_tokens=wanted, ends=self._ends)
        propose(config, self._speculation)
        try:
            config.validate()
        except RuntimeError as error:
            raise RequestRejectedError(last_line(error), param=None) from error
        return config
