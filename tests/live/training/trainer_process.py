"""A trainer's process as the house starts it, for tests."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.job import TrainingSpec
from meted.live.wire import Channel, Failed, Frame, FromTrainer


class TrainerProcess:
    """Starts `python -m meted.live.job_worker`, keeps what it says and ends it with the block."""

    def __init__(self, *, spec: TrainingSpec, registry: Path, workdir: Path) -> None:
        self.house_end, worker_end = socket.socketpair()
        self.channel = Channel(self.house_end, FromTrainer)
        self.frames: list[Any] = []
        command = [sys.executable, "-m", "meted.live.job_worker", "--fd", str(worker_end.fileno())]
        command += ["--spec", msgspec.json.encode(spec).decode(), "--registry", str(registry)]
        command += ["--workdir", str(workdir), "--threads", "2"]
        self.process = subprocess.Popen(command, pass_fds=[worker_end.fileno()])
        worker_end.close()

    def __enter__(self) -> "TrainerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.house_end.close()

    def send(self, frame: Frame) -> None:
        self.channel.send([frame])

    def until(self, kind: type[Frame], *, step: int = 0) -> Any:
        """Read until a message of this kind, of this step or a later one."""
        read = 0
        while True:
            for frame in self.frames[read:]:
                read += 1
                if isinstance(frame, kind) and getattr(frame, "step", step) >= step:
                    return frame
                if isinstance(frame, Failed) and kind is not Failed:
                    raise AssertionError(f"the trainer failed: {frame.message}")
            assert not self.channel.closed, f"the trainer ended before it sent {kind.__name__}"
            self.frames += self.channel.receive(block=True)

    def drain(self) -> int:
        """Read until the process ends; its exit status."""
        while not self.channel.closed:
            self.frames += self.channel.receive(block=True)
        return self.process.wait(timeout=20)

    def of(self, kind: type[Frame]) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]
