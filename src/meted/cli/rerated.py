"""What a re-rating did, for the audit log and for people."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from meted.cli.common import print_json
from meted.cli.render import dollars
from meted.live.audited import AuditedStore
from meted.live.books import Rerated


def print_rerated(
    store: AuditedStore,
    done: Rerated,
    *,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
    changed: str,
    as_json: bool,
) -> None:
    """Enter a re-rating in the audit log and print it. changed: what kind of things were."""
    store.note(action, subject, {**detail, **asdict(done)})
    if as_json:
        print_json(done)
        return
    if not done.corrections:
        click.echo("nothing to correct: it was rated like this already")
    else:
        click.echo(
            f"{done.changed} {changed} re-rated by {done.corrections} corrections, "
            f"{'+' if done.amount >= 0 else ''}{dollars(done.amount)} in all"
        )
    if done.kept:
        click.echo(f"{done.kept} were not charged by their rates and keep what they were charged")
