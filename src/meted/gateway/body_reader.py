"""Bodies as they come in: of one length, not too large, not compressed, and not for ever."""

import asyncio
import contextlib
from collections.abc import Sequence

from starlette.types import Message, Receive

from meted.gateway.errors import INVALID, refusal
from meted.live.dollars import shortened
from meted.live.doors import HouseError

MOST_LENGTH_DIGITS = 18
LINGER_BYTES = 64 * 1024 * 1024
LINGER_S = 1.0
LOOKS_PER_TIMEOUT = 4


class ClientGoneError(Exception):
    """The client closed its connection before its request was whole."""


class BodyReader:
    """Reads bodies of up to `limit_bytes` that are whole within `timeout_s`, or little more.

    One timer looks after all that are being read: most are there at once, and a timer for each
    would cost them more than the reading.
    """

    def __init__(self, *, limit_bytes: int, timeout_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._reading: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._looking = False

    async def read(self, receive: Receive) -> bytes:
        """The whole body, counted while it comes. Raises HouseError (408, 413), ClientGoneError."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._reading[task] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(self._timeout_s / LOOKS_PER_TIMEOUT, self._look, loop)
        try:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                whole: bytes = message.get("body", b"")
                if len(whole) <= self._limit_bytes:
                    return whole
            return await self._rest(message, receive)
        except asyncio.CancelledError:
            # Somebody else may want this task to end, too.
            if task in self._late and task.uncancel() == 0:
                raise self._too_slow() from None
            raise
        finally:
            del self._reading[task]
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up on those that take too long; look again while any is being read."""
        before = loop.time() - self._timeout_s
        for task, began in self._reading.items():
            if began <= before and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._reading)
        if self._looking:
            loop.call_later(self._timeout_s / LOOKS_PER_TIMEOUT, self._look, loop)

    async def _rest(self, message: Message, receive: Receive) -> bytes:
        """The body that begins with this message. Raises HouseError (413), ClientGoneError."""
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            size += len(part)
            more = message.get("more_body", False)
            if size > self._limit_bytes:
                raise self._too_large(f"over {size} bytes" if more else f"{size} bytes")
            parts.append(part)
            if not more:
                return b"".join(parts)
            message = await receive()

    def check_length(self, lengths: Sequence[bytes]) -> None:
        """Raises HouseError: 400 for a length that is none or differs from another, 413."""
        length = lengths[0]
        if not length.isdigit() or (len(lengths) > 1 and set(lengths) != {length}):
            shown = shortened(b", ".join(lengths).decode("latin-1"))
            raise refusal(f"content-length is {shown}, expected one number of bytes", param=None)
        if len(length) > MOST_LENGTH_DIGITS or int(length) > self._limit_bytes:
            raise self._too_large(f"{length[:MOST_LENGTH_DIGITS].decode()} bytes")

    def _too_large(self, size: str) -> HouseError:
        return HouseError(
            f"the body is {size} long, expected at most {self._limit_bytes}; send less, or raise "
            "server.max_body_bytes",
            status=413,
            type=INVALID,
            code="request_too_large",
        )

    def _too_slow(self) -> HouseError:
        return HouseError(
            f"the body did not come whole within {self._timeout_s:g} s; send it faster, or raise "
            "server.body_timeout_s",
            status=408,
            type=INVALID,
            code="request_timeout",
        )


def check_encoding(encoding: bytes) -> None:
    """Raises HouseError (415) for a compressed body."""
    if encoding.strip().lower() not in (b"", b"identity"):
        raise HouseError(
            f"content-encoding is {shortened(encoding.decode('latin-1'))}, expected none; "
            "send the JSON as it is",
            status=415,
            type=INVALID,
        )


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
