"""Checkpoints of a job on disk: whole or absent, the last two kept, a damaged one passed over."""

import os
import re
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

KEPT = 2
_FILE = re.compile(r"step-(\d{8})\.pt")


class CheckpointFolder:
    """The checkpoints of one training, by step; the newest `kept` stay."""

    def __init__(self, folder: Path, *, kept: int = KEPT) -> None:
        self._folder = folder
        self._kept = kept
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Make the content durable: when this returns, even a power cut does not lose it."""
        with write_whole(self._folder / f"step-{step:08d}.pt") as file:
            torch.save(content, file)
        for _, old in self._files()[self._kept :]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The content of the newest checkpoint that can be read, or None without one."""
        for _, path in self._files():
            content = _load(path)
            if content is not None:
                return content
        return None

    def _files(self) -> list[tuple[int, Path]]:
        found = [
            (int(match[1]), path)
            for path in self._folder.iterdir()
            if (match := _FILE.fullmatch(path.name))
        ]
        return sorted(found, reverse=True)


def _load(path: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile):
        return None


@contextmanager
def write_whole(path: Path) -> Generator[IO[bytes]]:
    """A file that appears under its name only once all of it is on the disk."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
