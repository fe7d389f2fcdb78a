"""A job's line to the house: what its process reports, and what it is told between two parts."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from meted.domain.job import TrainingPhase
from meted.live.checkpoints import CheckpointError
from meted.live.training.errors import TrainingError
from meted.live.wire import Failed, Frame, Pause, Paused, PhaseChanged, Resume, Stop


class Link(Protocol):
    """What a trainer needs of a `wire.Channel`."""

    @property
    def closed(self) -> bool: ...

    def send(self, frames: Sequence[Frame]) -> None: ...

    def receive(self, *, block: bool) -> list[Any]: ...


class StopOrdered(Exception):  # noqa: N818 (an order, no error)
    """The house wants this trainer to end, or has gone."""


class House:
    """Reports to the house and heeds its orders. clock: the worker's CPU clock, in nanoseconds."""

    def __init__(self, link: Link, clock: Callable[[], int] = time.process_time_ns) -> None:
        self._link = link
        self.clock = clock

    @property
    def link(self) -> Link:
        return self._link

    def tell(self, *frames: Frame) -> None:
        self._link.send(frames)

    def turn_to(self, phase: TrainingPhase) -> None:
        """Say what the device time from here on is for."""
        self.tell(PhaseChanged(phase, self.clock()))

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
                            self.tell(Paused(make_durable(), self.clock()))
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


def reported(house: House, work: Callable[[], None]) -> int:
    """Do a job's work to its end, or to the order to stop; the exit status of its process.

    What a user can mend is told to the house as a sentence.
    """
    try:
        work()
    except StopOrdered:
        return 0
    except (CheckpointError, TrainingError, ValueError, OSError, MemoryError) as error:
        traceback.print_exc(file=sys.stderr)
        house.tell(Failed(str(error) or "memory ran out; take a smaller micro_batch"))
        return 1
    return 0


def cpu_nanos() -> int:
    """The worker's own cumulative CPU clock."""
    return time.process_time_ns()
