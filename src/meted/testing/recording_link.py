"""A house's end of a job's line, in the same process."""

from collections.abc import Sequence
from typing import Any

from meted.live.wire import Frame


class RecordingLink:
    """Keeps what it is told; gives orders after a count of polls, or after a kind of message.

    A job that waits for an order that never comes finds that the house has gone.
    """

    def __init__(
        self,
        orders: dict[int, list[Frame]] | None = None,
        *,
        after: dict[type[Frame], list[Frame]] | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self.closed = False
        self.polls = 0
        self._orders = orders or {}
        self._after = after or {}

    def send(self, frames: Sequence[Frame]) -> None:
        self.frames += frames

    def receive(self, *, block: bool) -> list[Any]:
        self.polls += 1
        orders = self._orders.pop(self.polls, [])
        for kind in [one for one in self._after if self.of(one)]:
            orders += self._after.pop(kind)
        if block and not orders:
            self.closed = True
        return orders

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]
