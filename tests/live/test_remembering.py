"""What must be remembered is written once, in order, also when the store was away meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from meted.live import remembering
from meted.live.remembering import Remembering
from meted.live.store import StoreDownError

T = TypeVar("T")


class World:
    """A writer that runs calls at once, and a store that may be down."""

    def __init__(self) -> None:
        self.down = False
        self.written: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.memory = Remembering(in_writer=self.in_writer, spawn=self.spawn)

    async def in_writer(self, call: Callable[[], T], /) -> T:
        return call()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def write(self, number: int) -> None:
        if self.down:
            raise StoreDownError("away")
        self.written.append(number)

    def remember(self, *numbers: int) -> None:
        for number in numbers:
            self.memory.later(lambda number=number: self.write(number))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "PAUSE_S", 0.001)


async def test_an_outage_delays_but_neither_loses_nor_reorders() -> None:
    world = World()
    world.remember(1)
    await asyncio.gather(*world.tasks)
    world.down = True
    world.remember(2, 3)
    await asyncio.sleep(0.01)
    world.remember(4)
    assert world.written == [1]
    world.down = False
    await asyncio.gather(*world.tasks)
    assert world.written == [1, 2, 3, 4]


async def test_a_house_that_ends_gives_up_after_some_tries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.down = world.memory.ending = True
    world.remember(1, 2)
    await asyncio.wait_for(asyncio.gather(*world.tasks), 5)
    assert "2 changes are not remembered" in caplog.text
