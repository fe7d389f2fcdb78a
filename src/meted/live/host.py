"""The seam to where workers run: local processes here, a cluster later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from meted.domain.units import DeviceNanos
from meted.live.wire import Frame


class Urgency(StrEnum):
    """How the operating system ranks a worker: as an equal, or only when nobody else wants."""

    NORMAL = "normal"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How to start a worker. Its process finds its socket's number in place of `{fd}`.

    family: it starts processes of its own, which are metered, placed and frozen with it.
    """

    id: str
    arguments: tuple[str, ...]
    devices: tuple[int, ...]
    urgency: Urgency
    incoming: Any
    """Type of the messages that it sends."""
    family: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How a worker ended: its last CPU reading and the reason in words."""

    cpu_nanos: DeviceNanos
    reason: str


OnMessage = Callable[[Any], None]
OnEnd = Callable[[WorkerEnd], None]


class Worker(Protocol):
    """One worker process, its own house's end of the line."""

    @property
    def pid(self) -> int: ...

    def send(self, frame: Frame) -> None:
        """Queue a message; a worker that has gone loses it."""
        ...

    def cpu_nanos(self) -> DeviceNanos:
        """The worker's cumulative processor time now; its last value once it has ended."""
        ...

    def place(self, devices: Sequence[int], urgency: Urgency) -> None:
        """Bind all its threads to these devices, at this rank."""
        ...

    def freeze(self) -> None:
        """Take it off the processors at once, until `thaw`."""
        ...

    def thaw(self) -> None: ...

    def kill(self) -> None: ...


class Host(Protocol):
    """Starts workers and watches them die."""

    async def start(self, spec: WorkerSpec, on_message: OnMessage, on_end: OnEnd) -> Worker:
        """Start a worker. on_end is called exactly once, after its last message."""
        ...
