"""`meted audit`: who changed what in the house and its books, and when."""

from datetime import UTC, datetime
from typing import Any, cast

import click

from meted.cli.books import open_books
from meted.cli.common import common_options, examples, print_json
from meted.cli.render import print_table
from meted.domain.units import MICROS_PER_SECOND
from meted.live.home import Home
from meted.live.money_views import audit_view
from meted.live.store import AuditEntry

MOST_ROWS = 100_000


@click.command(epilog=examples("meted audit", "meted audit --limit 500 --json"))
@click.option(
    "--limit", type=click.IntRange(1, MOST_ROWS), default=50, show_default=True, help="Most rows."
)
@common_options
def audit(limit: int, home: Home, as_json: bool) -> None:
    """Show what admins did: keys, budgets, prices, rates, deployments, jobs; newest first."""
    with open_books(home) as store:
        entries = store.audit_log(limit)
    if as_json:
        print_json([audit_view(entry) for entry in entries])
    elif entries:
        print_table(
            ("when", "who", "did", "to", "detail"),
            [
                (
                    datetime.fromtimestamp(entry.at / MICROS_PER_SECOND, UTC).strftime(
                        "%Y-%m-%d %H:%M:%SZ"
                    ),
                    *(entry.actor, entry.action, entry.subject, _detail(entry)),
                )
                for entry in entries
            ],
        )
    else:
        click.echo("nothing was changed yet")


def _detail(entry: AuditEntry) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in entry.detail.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        inner = cast(dict[str, Any], value)
        said = (f"{key}:{_shown(one)}" for key, one in inner.items() if one is not None)
        return "{" + " ".join(said) + "}"
    return "-" if value is None else str(value)
