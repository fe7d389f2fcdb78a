"""One HTTP exchange without a framework: headers read once, few writes, a watch on the client."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from types import TracebackType

from starlette.types import Receive, Scope, Send

from meted.domain.units import RequestId
from meted.gateway.body_reader import BodyReader, check_encoding, let_go
from meted.gateway.errors import error_body
from meted.gateway.headers import Header, header_list, header_word, may_echo
from meted.gateway.limits import Admission, KeyLimit, used_tokens
from meted.gateway.replies import failed_stream
from meted.live.dollars import usd
from meted.live.doors import Ended, HouseError, Ticket, Usage

JSON: Header = (b"content-type", b"application/json")
EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
MAX_ECHO_BYTES = 256
CLOSE: Header = (b"connection", b"close")

_log = logging.getLogger("meted.gateway")


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
        "_length",
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
        self._length: bytes | None = None
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
                if self._length is not None:
                    self._lengths = [*(self._lengths or (self._length,)), value]
                self._length = value
            elif name == b"content-encoding":
                self._encoding = value
            elif name == b"x-request-id":
                self.echo = value

    async def body(self, reader: BodyReader) -> bytes:
        """The whole body. Raises HouseError (400, 408, 413, 415), ClientGoneError."""
        if self._encoding is not None:
            check_encoding(self._encoding)
        if self._length is not None:
            reader.check_length(self._lengths or (self._length,))
        whole = await reader.read(self._receive)
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


def unexpected(request_id: RequestId) -> HouseError:
    """What a client is told of our own mistake, which is logged with its trace."""
    _log.exception("request %s failed in the gateway", request_id)
    return HouseError(
        f"the gateway failed on request '{request_id}'; its log says why",
        status=500,
        type="server_error",
        code="internal_error",
    )
