"""Following a job until it ends: a bar on a terminal, lines elsewhere."""

import contextlib
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from meted.cli.client import connect
from meted.cli.common import NoHouseError
from meted.cli.render import dollars, number
from meted.domain.job import FINAL_JOB_STATUSES, JobKind
from meted.live.home import Home

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
LINE_SECONDS = 10.0


def watch_job(home: Home, name: str, *, silent: bool = False) -> dict[str, Any] | None:
    """Follow a job until it ends and return it; None if the user left it running with Ctrl-C.

    A house that restarts meanwhile is waited for. silent: show nothing while waiting.
    """
    if silent:
        show: _Show = _Show()
    else:
        show = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        with show:
            while True:
                job = _patiently(home, name)
                show.update(job)
                if job["status"] in FINAL_JOB_STATUSES:
                    break
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe job {name} goes on; `meted jobs watch {name}` follows it, "
            f"`meted jobs cancel {name}` ends it",
            err=True,
        )
        return None
    if not silent:
        _say_end(job)
    return job


def _patiently(home: Home, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return connect(home).get("jobs", name)
        except NoHouseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _measures(job: dict[str, Any]) -> str:
    if job["kind"] != JobKind.TRAINING:
        return f"{number(job['device_seconds'], 1)} core-s  {dollars(job['cost_nano_usd'])} so far"
    parts = [
        f"loss {number(job['loss'])}",
        f"held-out {number(job['held_out'])}",
        f"{number(job['tokens_per_second'], 0)} tokens/s",
        f"{dollars(job['cost_nano_usd'])} so far",
        f"{dollars(job['cost_to_finish_nano_usd'])} to finish",
    ]
    return "  ".join(parts)


def _state(job: dict[str, Any]) -> str:
    return job["phase"] if job["status"] == "running" else job["status"]


class _Show(contextlib.AbstractContextManager["_Show"]):
    """Shows nothing."""

    def update(self, job: dict[str, Any]) -> None:
        """The job has moved."""

    def __exit__(self, *error: object) -> None:
        pass


class _Bar(_Show):
    """A progress bar on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[state]:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measures]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=None, state="", measures="")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self, job: dict[str, Any]) -> None:
        self._progress.update(
            self._task,
            total=job["total_steps"] or None,
            completed=job["step"],
            state=_state(job),
            measures=_measures(job),
        )


class _Lines(_Show):
    """A line on standard error when the state changes, and now and then."""

    def __init__(self) -> None:
        self._state = ""
        self._next = 0.0

    def update(self, job: dict[str, Any]) -> None:
        now, state = time.monotonic(), _state(job)
        if state == self._state and now < self._next:
            return
        self._state, self._next = state, now + LINE_SECONDS
        click.echo(f"{state}  {job['step']}/{job['total_steps']}  {_measures(job)}", err=True)


def _say_end(job: dict[str, Any]) -> None:
    name, status = job["name"], job["status"]
    if status != "done":
        click.echo(f"the job {name} is {status}" + (f": {job['error']}" if job["error"] else ""))
        return
    spent = f"{number(job['device_seconds'], 1)} device-seconds, {dollars(job['cost_nano_usd'])}"
    if job["kind"] != JobKind.TRAINING:
        click.echo(f"the job {name} is done: {job['what']}; {spent}")
        return
    click.echo(
        f"the job {name} is done: held-out loss {number(job['held_out_before'])} -> "
        f"{number(job['held_out'])}, as served {number(job['held_out_converted'])}; {spent}"
    )
    click.echo(f"serve it: meted deploy {name}")
