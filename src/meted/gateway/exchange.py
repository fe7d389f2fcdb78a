"""One HTTP exchange without a framework: headers read once, few writes, a watch on the client."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from types import TracebackType

from starlette.types import Message, Receive, Scope, Send

from meted.domain.units import RequestId
from meted.gateway.errors import INVALID, error_body, refusal
from meted.gateway.headers import Header, header_list, header_word, may_echo
from meted.gateway.limits import Admission, KeyLimit, used_tokens
from meted.gateway.replies import failed_stream
from meted.live.dollars import shortened, usd
from meted.live.doors import Ended, HouseError, Ticket, Usage

JSON: Header = (b"content-type", b"application/json")
EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
MAX_ECHO_BYTES = 256
MOST_LENGTH_DIGITS = 18
CLOSE: Header = (b"connection", b"close")
LINGER_BYTES = 64 * 1024 * 1024
LINGER_S = 1.0

_log = logging.getLogger("meted.gateway")


class ClientGoneError(Exception):
    """The client closed its connection before its request was whole."""


def new_request_id() -> RequestId:
    return RequestId(f"req-{secrets.token_hex(12)}")


def identity_headers(request_id: RequestId, echo: bytes | None) -> list[Header]:
    """The headers that every response carries; echo: the client's own x-request-id."""
    headers = [(b"x-meted-request-id", request_id.encode())]
    if echo is not None and len(echo) <= MAX_ECHO_BYTES and may_echo(echo):
        headers.append((b"x-request-id", echo))
    return headers


class Exchange:
    """A request on the hot path and the answer to it.

    limit: the key's, where it has one; admission: what the request took of it.
    """

    __slots__ = (
        "_body_read",
        "_encoding",
        "_lengths",
        "_receive",
        "_send",
        "admission",
        "authorization",
        "echo",
        "limit",
        "request_id",
        "started",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._lengths: list[bytes] | None = None
        self._encoding: bytes | None = None
        self._body_read = False
        self.limit: KeyLimit | None = None
        self.admission: Admission | None = None
        self.authorization: bytes | None = None
        self.echo: bytes | None = None
        self.request_id = new_request_id()
        self.started = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-length":
                self._lengths = [*(self._lengths or ()), value]
            elif name == b"content-encoding":
                self._encoding = value
            elif name == b"x-request-id":
                self.echo = value

    async def body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The whole body. Raises HouseError (400, 408, 413, 415), ClientGoneError."""
        if self._encoding is not None:
            check_encoding(self._encoding)
        if self._lengths is not None:
            check_length(self._lengths, limit_bytes)
        whole = await read_body(self._receive, limit_bytes, timeout_s)
        self._body_read = True
        return whole

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Send the status and the headers; `more` and `last` follow."""
        self.started = True
        whole = [*identity_headers(self.request_id, self.echo), *headers]
        if self.limit is not None:
            whole += self.limit.headers()
        await self._send({"type": "http.response.start", "status": status, "headers": whole})

    async def more(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def last(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data})

    def used(self, usage: Usage) -> None:
        """It is known what the request used."""
        if self.admission is not None:
            self.admission.settle(used_tokens(usage))

    async def reply(self, body: bytes, ended: Ended, status: int = 200) -> None:
        """Send a whole JSON answer with what it cost, its price, and what stopped it early."""
        self.used(ended.usage)
        headers = [
            JSON,
            (b"content-length", b"%d" % len(body)),
            (b"x-meted-cost-usd", usd(ended.usage.cost).encode()),
            (b"x-meted-price-usd", usd(ended.usage.price).encode()),
        ]
        if ended.stopped is not None:
            headers.append((b"x-meted-stopped", b"budget; name=" + header_word(ended.stopped)))
        await self.start(status, headers)
        await self.last(body)

    async def refuse(self, error: HouseError) -> None:
        """Send an error; in a stream that has begun, as its last events."""
        body = error_body(error)
        if self.started:
            await self.last(failed_stream(body))
            return
        if self.admission is not None:
            self.admission.settle(0)
        headers = [JSON, (b"content-length", b"%d" % len(body)), *error_headers(error)]
        if self._body_read:
            await self.start(error.status, headers)
            await self.last(body)
            return
        await self.start(error.status, [*headers, CLOSE])
        await self.more(body)
        await let_go(self._receive)
        await self.last(b"")

    def watch(self, ticket: Ticket) -> "Watch":
        return Watch(self._receive, ticket)


class Watch:
    """While open, a client that goes cancels its ticket; so does a failure of the door itself."""

    __slots__ = ("_receive", "_task", "_ticket")

    def __init__(self, receive: Receive, ticket: Ticket) -> None:
        self._receive = receive
        self._ticket = ticket
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.create_task(self._wait())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        if error is not None and not isinstance(error, HouseError):
            self._ticket.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._ticket.cancel()


def error_headers(error: HouseError) -> list[Header]:
    """What an error says in headers: when to come again, or how to identify oneself."""
    headers = header_list(error.headers)
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def check_encoding(encoding: bytes) -> None:
    """Raises HouseError (415) for a compressed body."""
    if encoding.strip().lower() not in (b"", b"identity"):
        raise HouseError(
            f"content-encoding is {shortened(encoding.decode('latin-1'))}, expected none; "
            "send the JSON as it is",
            status=415,
            type=INVALID,
        )


def check_length(lengths: Sequence[bytes], limit_bytes: int) -> None:
    """Raises HouseError: 400 for a length that is none or that is given twice, 413 if too large."""
    length = lengths[0]
    if any(other != length for other in lengths) or not length.isdigit():
        shown = shortened(b", ".join(lengths).decode("latin-1"))
        raise refusal(f"content-length is {shown}, expected one number of bytes", param=None)
    if len(length) > MOST_LENGTH_DIGITS or int(length) > limit_bytes:
        raise _too_large(f"{length[:MOST_LENGTH_DIGITS].decode()} bytes", limit_bytes)


async def read_body(receive: Receive, limit_bytes: int, timeout_s: float) -> bytes:
    """The whole body, counted while it comes. Raises HouseError (408, 413), ClientGoneError."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_body(receive, limit_bytes)
    except TimeoutError as error:
        raise HouseError(
            f"the body did not come whole within {timeout_s:g} s; send it faster, or raise "
            "server.body_timeout_s",
            status=408,
            type=INVALID,
            code="request_timeout",
        ) from error


async def _read_body(receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _too_large(
                f"over {size} bytes" if message.get("more_body") else f"{size} bytes", limit_bytes
            )
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def let_go(receive: Receive) -> None:
    """Before the connection is closed on a body that is not wanted: read some of it, for a moment.

    A client that still sends when its connection closes sees a reset instead of our answer.
    """
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b"")) + 1
                if not message.get("more_body", False):
                    return


def _too_large(size: str, limit_bytes: int) -> HouseError:
    return HouseError(
        f"the body is {size} long, expected at most {limit_bytes}; send less, or raise "
        "server.max_body_bytes",
        status=413,
        type=INVALID,
        code="request_too_large",
    )


def unexpected(request_id: RequestId) -> HouseError:
    """What a client is told of our own mistake, which is logged with its trace."""
    _log.exception("request %s failed in the gateway", request_id)
    return HouseError(
        f"the gateway failed on request '{request_id}'; its log says why",
        status=500,
        type="server_error",
        code="internal_error",
    )
