"""OpenAI's doors: chats, completions and embeddings, streamed or whole, without a framework."""

import time
from collections.abc import Callable
from typing import Protocol

from starlette.types import Receive, Scope, Send

from meted.domain.request import FinishReason, Outcome, Prompt, Sampling
from meted.domain.units import DeploymentName
from meted.gateway.bodies import Wish, read_embeddings
from meted.gateway.body_reader import BodyReader, ClientGoneError
from meted.gateway.errors import error_body, key_behind, refusal
from meted.gateway.exchange import EVENTS, Exchange, unexpected
from meted.gateway.limits import KeyLimits, most_tokens
from meted.gateway.replies import Chunks, Style, embeddings_answer, failed_stream, whole_answer
from meted.live.doors import (
    Begun,
    Delta,
    Doors,
    Ended,
    HouseError,
    Key,
    RequestEvent,
    Submission,
    Ticket,
    Vectors,
)

_FAILURES = {
    Outcome.FAILED: (500, "request_failed"),
    Outcome.CANCELLED: (503, "request_cancelled"),
    Outcome.EXPIRED: (504, "request_expired"),
}


class Answer(Protocol):
    """What a door does with a whole body from a known tenant."""

    async def __call__(self, exchange: Exchange, key: Key, body: bytes) -> None: ...


class Door:
    """A POST endpoint as a bare ASGI application: who asks, the body, the answer or an error."""

    def __init__(
        self,
        doors: Doors,
        answer: Answer,
        *,
        limits: KeyLimits,
        reader: BodyReader,
        request_ended: Callable[[], None],
    ) -> None:
        self._doors = doors
        self._answer = answer
        self._limits = limits
        self._reader = reader
        self._request_ended = request_ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            key = key_behind(self._doors, exchange.authorization)
            exchange.limit = self._limits.of(key)
            body = await exchange.body(self._reader)
            await self._answer(exchange, key, body)
        except ClientGoneError:
            return
        except HouseError as error:
            await exchange.refuse(error)
        except Exception:
            await exchange.refuse(unexpected(exchange.request_id))
        finally:
            if exchange.admission is not None:
                exchange.admission.abandon()
            self._request_ended()


class Generate:
    """Answers chats or completions, by their style."""

    def __init__(self, doors: Doors, style: Style, read: Callable[[bytes], Wish]) -> None:
        self._doors = doors
        self._style = style
        self._read = read

    async def __call__(self, exchange: Exchange, key: Key, body: bytes) -> None:
        wish = self._read(body)
        ticket = self._doors.submit(
            submission(exchange, key, wish.model, wish.prompt, wish.sampling)
        )
        with exchange.watch(ticket):
            if wish.stream:
                await self._stream(exchange, wish, ticket)
                return
            text, _, ended = await collect(ticket)
        if (error := failure(ended)) is not None:
            await exchange.reply(error_body(error), ended, error.status)
            return
        answer = whole_answer(
            self._style,
            request_id=exchange.request_id,
            created=int(time.time()),
            model=wish.model,
            text=text,
            finish_reason=finish_reason(ended),
            usage=ended.usage,
            stopped=ended.stopped,
        )
        await exchange.reply(answer, ended)

    async def _stream(self, exchange: Exchange, wish: Wish, ticket: Ticket) -> None:
        """Send text as it comes; what has piled up goes out as one chunk in one write."""
        event: RequestEvent | None = await ticket.next()
        if isinstance(event, Ended) and (error := failure(event)) is not None:
            await exchange.reply(error_body(error), event, error.status)
            return
        await exchange.start(200, EVENTS)
        chunks = Chunks(
            self._style,
            request_id=exchange.request_id,
            created=int(time.time()),
            model=wish.model,
            with_usage=wish.with_usage,
            in_each=wish.usage_in_each,
        )
        opening: bytes | None = None
        while True:
            text, tokens = "", 0
            while event is not None and not isinstance(event, Ended):
                match event:
                    case Begun(prompt_tokens=prompt_tokens):
                        chunks.prompt_tokens = prompt_tokens
                    case Delta():
                        text += event.text
                        tokens = event.completion_tokens
                    case Vectors():
                        pass
                event = ticket.next_nowait()
            # The role goes out with the first text: its arrival is the client's TTFT.
            data = chunks.delta(text, tokens) if text else b""
            if opening is None and (text or event is not None):
                opening = chunks.opening()
                data = opening + data
            if event is not None:
                exchange.used(event.usage)
                await exchange.last(data + stream_end(chunks, event))
                return
            if data:
                await exchange.more(data)
            event = await ticket.next()


class Embed:
    """Answers /v1/embeddings."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def __call__(self, exchange: Exchange, key: Key, body: bytes) -> None:
        wish = read_embeddings(body)
        ticket = self._doors.submit(submission(exchange, key, wish.model, wish.prompt, Sampling()))
        with exchange.watch(ticket):
            _, vectors, ended = await collect(ticket)
        error = failure(ended)
        if error is None and wish.dimensions not in (None, len(vectors[0])):
            error = refusal(
                f"dimensions is {wish.dimensions}, expected {len(vectors[0])}, what "
                f"'{wish.model}' gives; leave dimensions out",
                param="dimensions",
            )
        if error is not None:
            await exchange.reply(error_body(error), ended, error.status)
            return
        answer = embeddings_answer(vectors, model=wish.model, base64=wish.base64, usage=ended.usage)
        await exchange.reply(answer, ended)


def submission(
    exchange: Exchange, key: Key, model: DeploymentName, prompt: Prompt, sampling: Sampling
) -> Submission:
    """The request as the house takes it, let in by its key's limits. Raises HouseError (429)."""
    if exchange.limit is not None:
        exchange.admission = exchange.limit.admit(most_tokens(prompt, sampling.max_tokens))
    return Submission(
        request_id=exchange.request_id,
        payer=key.payer,
        deployment=model,
        prompt=prompt,
        sampling=sampling,
    )


async def collect(ticket: Ticket) -> tuple[str, tuple[tuple[float, ...], ...], Ended]:
    """All text and vectors of a request, and how it ended."""
    parts: list[str] = []
    vectors: tuple[tuple[float, ...], ...] = ()
    while True:
        event = ticket.next_nowait() or await ticket.next()
        match event:
            case Delta(text=text):
                parts.append(text)
            case Ended():
                return "".join(parts), vectors, event
            case Vectors(embeddings=embeddings):
                vectors = embeddings
            case Begun():
                pass


def failure(ended: Ended) -> HouseError | None:
    """What to tell a client whose request was not done."""
    if ended.outcome is Outcome.DONE:
        return None
    status, code = _FAILURES[ended.outcome]
    message = ended.error or f"the request ended as {ended.outcome}; send it again"
    return HouseError(message, status=status, type="server_error", code=code)


def finish_reason(ended: Ended) -> str:
    return ended.finish_reason or FinishReason.STOP


def stream_end(chunks: Chunks, ended: Ended) -> bytes:
    """The end of a stream, good or bad."""
    if (error := failure(ended)) is not None:
        return failed_stream(error_body(error))
    return chunks.ending(finish_reason(ended), ended.usage, ended.stopped)
