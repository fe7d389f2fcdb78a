"""A trainer's line to the house: what it reports, and what it is told between micro-batches."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from meted.domain.job import TrainingPhase
from meted.live.wire import Frame, Pause, Paused, PhaseChanged, Resume, Stop


class Link(Protocol):
    """What a trainer needs of a `wire.Channel`."""

    @property
    def closed(self) -> bool: ...

    def send(self, frames: Sequence[Frame]) -> None: ...

    def receive(self, *, block: bool) -> list[Any]: ...


class StopOrdered(Exception):  # noqa: N818 (an order, no error)
    """The house wants this trainer to end, or has gone."""


class House:
    """Reports to the house and heeds its orders."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def link(self) -> Link:
        return self._link

    def tell(self, *frames: Frame) -> None:
        self._link.send(frames)

    def turn_to(self, phase: TrainingPhase) -> None:
        """Say what the device time from here on is for."""
        self.tell(PhaseChanged(phase, cpu_nanos()))

    def heed(self, make_durable: Callable[[], int]) -> None:
        """Do what was ordered meanwhile; between orders this costs one system call.

        make_durable writes a checkpoint where one is due and returns its step. Pause waits here
        for Resume. Raises StopOrdered, on Stop after a checkpoint, and when the house has gone.
        """
        paused = False
        while True:
            for order in self._link.receive(block=paused):
                match order:
                    case Pause():
                        if not paused:
                            self.tell(Paused(make_durable(), cpu_nanos()))
                        paused = True
                    case Resume():
                        paused = False
                    case Stop():
                        make_durable()
                        raise StopOrdered
                    case _:
                        raise TypeError(f"the house sent {order!r}, expected ToTrainer")
            if self._link.closed:
                raise StopOrdered
            if not paused:
                return


def cpu_nanos() -> int:
    """The worker's own cumulative CPU clock."""
    return time.process_time_ns()
