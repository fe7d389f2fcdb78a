"""Bodies as they come: whole, in time, or given up; and who is cancelled for what."""

import asyncio

import pytest

from meted.gateway.body_reader import BodyReader, ClientGoneError
from meted.live.doors import HouseError


def coming(*parts: bytes, pause_s: float = 0.0, ends: bool = True):
    """A receive channel that gives these parts, each after a pause, and then nothing more."""
    left = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        if not left:
            await asyncio.Event().wait()
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or not ends}

    return receive


def reader(limit_bytes: int = 100, timeout_s: float = 0.08) -> BodyReader:
    return BodyReader(limit_bytes=limit_bytes, timeout_s=timeout_s)


async def test_parts_are_put_together() -> None:
    assert await reader().read(coming(b"ab", b"", b"cd")) == b"abcd"


async def test_a_body_that_drips_is_given_up_though_something_always_comes() -> None:
    with pytest.raises(HouseError) as slow:
        await reader().read(coming(*[b"x"] * 90, pause_s=0.01))
    assert (slow.value.status, slow.value.code) == (408, "request_timeout")


async def test_each_body_has_its_own_time() -> None:
    one = reader()

    async def status(pause_s: float, parts: int) -> int:
        try:
            await one.read(coming(*[b"x"] * parts, pause_s=pause_s))
        except HouseError as error:
            return error.status
        return 200

    async def later(pause_s: float) -> int:
        await asyncio.sleep(0.06)
        return await status(pause_s, 3)

    got = await asyncio.gather(status(1.0, 1), later(0.01), status(0.01, 3), status(1.0, 1))
    assert got == [408, 200, 200, 408]
    # Nobody is looked after any more, and the next slow one is found again.
    await asyncio.sleep(0.05)
    assert await status(1.0, 1) == 408


async def test_who_cancels_the_request_itself_is_obeyed() -> None:
    task = asyncio.create_task(reader(timeout_s=5).read(coming(ends=False)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_goes_and_a_body_that_grows_are_told_apart() -> None:
    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await reader().read(gone)
    with pytest.raises(HouseError) as large:
        await reader(limit_bytes=3).read(coming(b"ab", b"cd", ends=False))
    assert large.value.status == 413
