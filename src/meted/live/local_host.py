"""Workers as child processes of the house, on the cores of this machine."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, cast

from meted.domain.units import DeviceNanos
from meted.live.cpu_clock import family_cpu_nanos, family_of, process_cpu_nanos
from meted.live.host import OnEnd, OnMessage, Urgency, WorkerEnd, WorkerSpec
from meted.live.wire import LENGTH, Frame, decoder, encode

LOWEST_NICE = 19


class LocalHost:
    """Starts workers with `python -m`, each with a socket pair, a log file and a rank.

    places: whether it puts workers on their devices, at their rank; else they stay where, and as
    urgent as, this process is, which its own host may have changed meanwhile.
    """

    def __init__(self, logs: Path, *, places: bool = True) -> None:
        self._logs = logs
        self._places = places

    async def start(self, spec: WorkerSpec, on_message: OnMessage, on_end: OnEnd) -> "LocalWorker":
        """Start a worker's process. Children die with the house: they ask the kernel for it."""
        ours, theirs = socket.socketpair()
        arguments = [
            sys.executable,
            *(part.replace("{fd}", str(theirs.fileno())) for part in spec.arguments),
        ]
        self._logs.mkdir(parents=True, exist_ok=True)
        with theirs, (self._logs / f"{spec.id}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own keeps Ctrl-C away from it. Not a session of its own: Linux may
                # schedule sessions against each other first, and the idle class would lose its
                # meaning between them.
                process_group=0,
                env=_environment(len(spec.devices)),
            )
        worker = LocalWorker(process, family=spec.family)
        if self._places:
            worker.place(spec.devices, spec.urgency)
        loop = asyncio.get_running_loop()
        link = _Link(decoder(spec.incoming), on_message)
        await loop.create_unix_connection(lambda: link, sock=ours)
        worker.attach(link)
        threading.Thread(
            target=_reap, args=(loop, worker, link, on_end), name=f"reap-{spec.id}", daemon=True
        ).start()
        return worker


class LocalWorker:
    """One child process; with all that it starts, where it is a family."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, family: bool = False) -> None:
        self._process = process
        self._family = family
        self._link: _Link | None = None
        self._last_cpu = 0
        self._ended = False
        self._frozen = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def attach(self, link: "_Link") -> None:
        """Messages go over this link."""
        self._link = link

    def send(self, frame: Frame) -> None:
        if self._link is not None:
            self._link.send(frame)

    def cpu_nanos(self) -> DeviceNanos:
        if not self._ended:
            with suppress(ProcessLookupError):
                read = family_cpu_nanos if self._family else process_cpu_nanos
                self._last_cpu = max(self._last_cpu, read(self.pid))
        return DeviceNanos(self._last_cpu)

    def place(self, devices: Sequence[int], urgency: Urgency) -> None:
        for thread in chain.from_iterable(map(_threads, self._members())):
            with suppress(ProcessLookupError):
                if hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(thread, devices)
                _rank(thread, urgency)

    def freeze(self) -> None:
        if not self._frozen:
            self._frozen = True
            self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def ended(self, cpu_nanos: int, code: int) -> None:
        """The process has been reaped, with this exit status; its clock stopped here."""
        # Popen did not reap it itself, and would warn of it for ever.
        self._process.returncode = code
        self._last_cpu = max(self._last_cpu, cpu_nanos)
        self._ended = True

    def _members(self) -> list[int]:
        return family_of(self.pid) if self._family else [self.pid]

    def _signal(self, number: signal.Signals) -> None:
        """The process first: once it stands still, it starts no others."""
        if self._ended:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        for member in self._members()[1:]:
            with suppress(ProcessLookupError):
                os.kill(member, number)


class _Link(asyncio.Protocol):
    """The house's end of a worker's socket pair: frames out, messages in."""

    def __init__(self, decode: Callable[[bytes], Any], on_message: OnMessage) -> None:
        self._decode = decode
        self._on_message = on_message
        self._buffer = bytearray()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are duck-typed, not subclasses.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, size = 0, LENGTH.size
        while len(buffer) - start >= size:
            (length,) = LENGTH.unpack_from(buffer, start)
            end = start + size + length
            if len(buffer) < end:
                break
            self._on_message(self._decode(bytes(buffer[start + size : end])))
            start = end
        del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def send(self, frame: Frame) -> None:
        """Send what is said in one turn of the loop in one write."""
        self._outgoing.append(encode(frame))
        if len(self._outgoing) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(frames))

    def close(self) -> None:
        """Our end is no longer needed."""
        if self._transport is not None:
            self._transport.close()


def _reap(loop: asyncio.AbstractEventLoop, worker: LocalWorker, link: _Link, on_end: OnEnd) -> None:
    """Wait for the process in a thread of its own, because only wait4 tells its last CPU time."""
    try:
        _, status, usage = os.wait4(worker.pid, 0)
        cpu = round((usage.ru_utime + usage.ru_stime) * 1e9)
        code = os.waitstatus_to_exitcode(status)
        reason = _reason(code)
    except ChildProcessError:
        cpu, code, reason = 0, 0, "was reaped by somebody else"

    async def finish() -> None:
        worker.ended(cpu, code)
        with suppress(TimeoutError):
            await asyncio.wait_for(link.lost.wait(), timeout=1.0)
        link.close()
        on_end(WorkerEnd(cpu_nanos=worker.cpu_nanos(), reason=reason))

    with suppress(RuntimeError):  # The loop is closed: the house has ended first.
        asyncio.run_coroutine_threadsafe(finish(), loop)


def _reason(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _threads(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    try:
        return [int(entry.name) for entry in folder.iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return [pid]


def _rank(thread: int, urgency: Urgency) -> None:
    """Idle class where the system has one, else the lowest nice value (which cannot be undone)."""
    if hasattr(os, "SCHED_IDLE"):
        policy = os.SCHED_IDLE if urgency is Urgency.IDLE else os.SCHED_OTHER
        os.sched_setscheduler(thread, policy, os.sched_param(0))
    elif urgency is Urgency.IDLE:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, LOWEST_NICE)


def _environment(threads: int) -> dict[str, str]:
    """Thread pools are capped before any library loads: oversubscribed pools spin and collapse."""
    capped = {
        name: str(threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    return {**os.environ, **capped, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
