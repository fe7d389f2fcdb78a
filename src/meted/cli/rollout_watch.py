"""Following a rollout until it ends: a line on standard error for each turn and what it told."""

import time
from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import NoHouseError
from meted.cli.savings import interval
from meted.live.home import Home

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
ENDED = ("promoted", "returned")


def watch_rollout(home: Home, name: str, *, silent: bool = False) -> dict[str, Any] | None:
    """The rollout once it has ended; None if the user left it running with Ctrl-C.

    A house that restarts meanwhile is waited for. silent: say nothing while waiting.
    """
    said = ""
    try:
        while True:
            found = _patiently(home, name)
            line = _line(found)
            if line != said and not silent:
                click.echo(line, err=True)
            said = line
            if found["phase"] in ENDED:
                return found
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe rollout goes on; `meted rollout show {name} --watch` follows it, "
            f"`meted rollout stop {name}` ends it",
            err=True,
        )
        return None


def _patiently(home: Home, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return connect(home).get("rollouts", name)
        except NoHouseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _line(found: dict[str, Any]) -> str:
    turn = found["turn"]
    who = f"{found['serving']} serves"
    if turn is not None and turn["waits_for_replicas"]:
        who += ", replicas are awaited"
    saving = found["measured"] or found["so_far"]
    parts = [
        f"{found['phase']}, block {found['blocks_done']} of {found['blocks_most']}",
        who,
        f"saving {interval(saving)}",
    ]
    if found["waiting"]:
        # Without the number of turns, so that a quiet night is one line.
        parts.append("waiting for requests")
    if found["void"]:
        parts.append(f"{found['void']} void")
    return "  ".join(parts)
