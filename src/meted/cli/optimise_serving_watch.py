"""What `meted optimise serving` shows while it measures: a bar of effort, or a line each."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from meted.live.tuning.searching import Watch
    from meted.optimise.search import Search
    from meted.optimise.search_values import Ask, Measured


@contextmanager
def measuring(effort: float) -> "Generator[Watch]":
    """A watch on standard error. effort: full measurements that may be spent."""
    if not sys.stderr.isatty():
        yield _line
        return
    columns = (
        TextColumn("{task.completed:.2f} of {task.total:g} measurements"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=effort)

        def advance(ask: "Ask", measured: "Measured", search: "Search") -> None:
            progress.update(task, advance=measured.effort, description=_told(measured))

        yield advance


def _line(ask: "Ask", measured: "Measured", search: "Search") -> None:
    print(f"{ask.reason}: {_told(measured)}", file=sys.stderr, flush=True)


def _told(one: "Measured") -> str:
    if one.refused is not None or one.cost is None:
        return f"{one.key}: {one.refused}"
    return f"{one.key}: ${one.cost:.5f} per million tokens on {one.effort:.0%} of the traffic"
