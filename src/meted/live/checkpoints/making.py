"""Folders that appear whole under their name, or never: made beside it, flushed, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def workplace(folder: Path) -> Generator[Path]:
    """An empty folder beside the others in `folder`, gone when the block ends.

    What killed processes left half-made is deleted first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    work = Path(tempfile.mkdtemp(prefix=prefix(), dir=folder))
    try:
        out = work / "out"
        out.mkdir()
        yield out
    finally:
        shutil.rmtree(work, ignore_errors=True)


def install(made: Path, target: Path) -> None:
    """Flush the folder `made` and give it its name, unless the name has been taken meanwhile."""
    make_durable(made)
    # Another process may have made the same in the meantime: then ours is not needed.
    if not target.exists():
        made.rename(target)
        make_durable(target.parent, recursive=False)


def prefix() -> str:
    """How the names of this process's half-made folders begin."""
    return f".making-{os.getpid()}-"


def make_durable(folder: Path, *, recursive: bool = True) -> None:
    """Flush to disk before a rename makes it visible."""
    paths = [folder, *(folder.rglob("*") if recursive else ())]
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder: Path) -> None:
    for path in folder.glob(".making-*"):
        with suppress(ValueError, IndexError):
            if not psutil.pid_exists(int(path.name.split("-")[1])):
                shutil.rmtree(path, ignore_errors=True)
