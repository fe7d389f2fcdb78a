"""A store that is down when a test says so: a fake of the world around the real one."""

from collections.abc import Callable
from typing import TypeVar

from meted.live.store import Batch, Store, StoreDownError
from meted.live.stores.delegating import DelegatingStore

T = TypeVar("T")


class DownStore(DelegatingStore):
    """Down while `down`, or from `calls_left` calls on. written: batches that reached the store."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.down = False
        self.calls_left: int | None = None
        self.asked = 0
        self.written: list[Batch] = []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.written.append(batch)

    def _through(self, call: Callable[[], T]) -> T:
        self.asked += 1
        if self.calls_left is not None:
            self.calls_left -= 1
            self.down = self.calls_left < 0
        if self.down:
            raise StoreDownError("the database does not answer")
        return call()


class Hands:
    """A clock that a test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
