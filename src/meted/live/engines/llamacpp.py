"""Text generation by llama.cpp, whose server runs in this process on threads of its own.

The server decides what its batches hold; it streams, for each request, how much of the prompt it
has read after each batch and each token with running counts. `step` waits until something came,
and reports what every request got since the step before.

Exact: for each request, prompt tokens computed and found in the cache (they add up to the prompt)
and tokens generated, also when several are accepted at once; and the processor time of all threads
together, which the worker reads around the steps. Not exact: which step a token is counted in. A
batch of the server is nearly always one step, since all that it made comes at once, but on a busy
machine one may be told of in two steps, or two in one. So the time of a step may be shared out by
the work of a neighbouring one; over a request's life this evens out. A cancelled request may take
part in the batch under way, and in one more, without a share. Tokens that were proposed and not
accepted, and a draft's own reading of the prompt, are work of the step and nobody's tokens.
"""

import threading
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.request import EngineRequest, FinishReason
from meted.domain.step import Step, StepOutput, StepShare
from meted.domain.units import RequestId, Tokens
from meted.live.checkpoints.checkpoint import read_checkpoint
from meted.live.checkpoints.loading import load_tokenizer
from meted.live.engine import EngineFacts
from meted.live.engines.context import answer_tokens
from meted.live.engines.llamacpp_request import Streaming, completion_body
from meted.live.engines.llamacpp_server import cache_room, facts_of, start_server
from meted.live.engines.prompt import encode_prompt
from meted.live.engines.sampling import read_recommended

TOGETHER_S = 0.001
"""How long a step waits for the rest of what one batch made for its requests."""

CLOSE_S = 5.0


class LlamaCppEngine:
    """An `Engine` over a checkpoint folder with a GGUF. More requests than max_batch, or than the
    cache is sure to hold, wait inside, unmetered."""

    def __init__(
        self,
        *,
        folder: Path,
        threads: int,
        max_batch: int,
        settings: EngineSettings | None = None,
    ) -> None:
        self._settings = settings or EngineSettings()
        checkpoint = read_checkpoint(folder)
        self._room = cache_room(facts_of(checkpoint), checkpoint, self._settings, max_batch)
        self._tokenizer = load_tokenizer(checkpoint)
        self._recommended = read_recommended(folder)
        self._server: Any = start_server(
            checkpoint, self._room, threads=threads, max_batch=max_batch, settings=self._settings
        )
        self._facts = EngineFacts(
            task=Task.GENERATE, context_tokens=Tokens(self._room.context), max_batch=max_batch
        )
        self._waiting: deque[Streaming] = deque()
        self._running: dict[RequestId, Streaming] = {}
        self._cancelled: list[RequestId] = []
        self._threads: list[threading.Thread] = []
        self._events: SimpleQueue[tuple[Streaming, Any]] = SimpleQueue()

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting or self._cancelled)

    def add(self, request: EngineRequest) -> Tokens:
        """Tokenise and take a request in; see `Engine.add`."""
        context = self._facts.context_tokens
        ids = encode_prompt(self._tokenizer, request, context=context)
        sampling = self._recommended.complete(request.sampling)
        wanted = answer_tokens(sampling.max_tokens, prompt=len(ids), context=context)
        body = completion_body(sampling, ids, max_tokens=wanted, settings=self._settings)
        self._waiting.append(Streaming(request.request_id, body, reserved=len(ids) + wanted))
        return Tokens(len(ids))

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; its end is reported by the next step."""
        running = self._running.pop(request_id, None)
        if running is not None:
            running.cancelled = True
        else:
            found = [one for one in self._waiting if one.id == request_id]
            if not found:
                return
            self._waiting.remove(found[0])
        self._cancelled.append(request_id)

    def step(self) -> Step:
        """What came since the last step, at least something; see `Engine.step`."""
        self._submit()
        outputs = [
            StepOutput(request_id=one, finish_reason=FinishReason.CANCELLED)
            for one in self._cancelled
        ]
        self._cancelled.clear()
        shares: list[StepShare] = []
        for one in self._collect(wait=not outputs):
            share = one.share()
            if share is not None:
                shares.append(share)
            text = one.text()
            if text or one.finish is not None:
                outputs.append(StepOutput(request_id=one.id, text=text, finish_reason=one.finish))
        held = sum(one.context for one in self._running.values())
        usage = min(1.0, held / self._room.total)
        for output in outputs:
            if output.finish_reason is not None:
                self._running.pop(output.request_id, None)
        return Step(shares=tuple(shares), outputs=tuple(outputs), cache_usage=usage)

    def close(self) -> None:
        """Drop what runs and end the server's threads, which must not outlive the interpreter."""
        for one in self._running.values():
            one.cancelled = True
        for thread in self._threads:
            thread.join(CLOSE_S)
        self._server = None

    def _submit(self) -> None:
        """Hand waiting requests to the server while it is sure to have room for them."""
        held = sum(one.reserved for one in self._running.values())
        while self._waiting and len(self._running) < self._facts.max_batch:
            held += self._waiting[0].reserved
            if self._running and held > self._room.total:
                return
            one = self._waiting.popleft()
            self._running[one.id] = one
            thread = threading.Thread(target=self._stream, args=(one,), daemon=True)
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
            thread.start()

    def _stream(self, one: Streaming) -> None:
        """Runs on the request's own thread: pass on what the server says until it ends."""

        def heard(event: dict[str, Any]) -> bool:
            self._events.put((one, event))
            return one.cancelled

        try:
            self._server.handle_completions(one.body, heard)
        except Exception as error:  # The thread has nobody else to tell it to.
            self._events.put((one, {"message": str(error)}))

    def _collect(self, *, wait: bool) -> list[Streaming]:
        """The requests of which something came: of one batch of the server, where it can be told.

        wait: for the first of it, without limit, if anything runs.
        """
        touched: dict[RequestId, Streaming] = {}
        more: set[RequestId] = set()
        while True:
            complete = len(touched) >= len(self._running) and not more
            try:
                one, event = self._next(wait=wait and not touched, complete=complete)
            except Empty:
                return list(touched.values())
            if self._running.get(one.id) is not one:
                continue
            (more.add if one.take(event) else more.discard)(one.id)
            if one.has_news:
                touched[one.id] = one

    def _next(self, *, wait: bool, complete: bool) -> tuple[Streaming, Any]:
        if wait and self._running:
            return self._events.get()
        return self._events.get_nowait() if complete else self._events.get(timeout=TOGETHER_S)
