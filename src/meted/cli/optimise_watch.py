"""What `meted optimise` shows while it works: a bar on a terminal, lines elsewhere.

The libraries print bars of their own past Python; these are sent away meanwhile.
"""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Watch:
    """Told which lever and which of its parts begins."""

    def __init__(self, out: IO[str], progress: Progress | None, levers: int) -> None:
        self._out = out
        self._progress = progress
        self._task = progress.add_task("", total=None, lever="") if progress else None
        self._lever = ""
        self._levers = levers
        self._number = 0

    def lever(self, name: str) -> None:
        """The next lever begins."""
        self._number += 1
        self._lever = f"[{self._number}/{self._levers}] {name}"

    def begin(self, what: str, parts: int) -> Callable[[], None]:
        """A part of the work begins, itself in `parts`; call the answer after each of these."""
        if self._progress is None or self._task is None:
            print(f"{self._lever}  {what}".strip(), file=self._out, flush=True)
            return lambda: None
        progress, task = self._progress, self._task
        total = parts if parts > 1 else None
        progress.reset(task, total=total, description=what, lever=self._lever)
        return lambda: progress.advance(task)


@contextmanager
def watching(levers: int) -> Generator[Watch]:
    """A watch on standard error; all else that is written to it, or to standard output, is lost
    until the block ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.isatty(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with open(os.dup(2), "w", encoding="utf-8") as out:  # noqa: PTH123 (a descriptor, no path)
        try:
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            if not terminal:
                yield Watch(out, None, levers)
                return
            with Progress(
                TextColumn("{task.fields[lever]}  {task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(file=out, force_terminal=True),
                redirect_stdout=False,
                redirect_stderr=False,
            ) as progress:
                yield Watch(out, progress, levers)
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.close(nowhere)
