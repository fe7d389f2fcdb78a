"""`meted savings`: what levers were said to save, and what they did."""

from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import common_options, examples, print_json
from meted.cli.render import dollars, print_table
from meted.live.home import Home


@click.command(epilog=examples("meted savings", "meted savings --json"))
@common_options
def savings(home: Home, as_json: bool) -> None:
    """The receipts of all levers, and the sum of what the verified ones have saved."""
    found = connect(home).get("savings")
    if as_json:
        print_json(found)
        return
    if not found["receipts"]:
        click.echo("no receipts yet; `meted rollout start --help` says how to get one")
        return
    print_table(
        ("id", "lever", "from", "to", "predicted", "measured", "status", "tokens since", "saved"),
        [
            (
                one["id"],
                one["lever"],
                one["from"],
                one["to"],
                interval(one["predicted"]),
                interval(one["measured"]),
                one["status"],
                one["tokens_since"] or None,
                _saved(one),
            )
            for one in found["receipts"]
        ],
        right=("tokens since", "saved"),
    )
    click.echo("")
    for one in found["receipts"]:
        click.echo(f"{one['id']}: {one['reason']}")
    total = found["total_nano_usd"]
    click.echo(
        f"\nverified savings: {dollars(total['expected'])} "
        f"({dollars(total['low'])} to {dollars(total['high'])})"
    )


def interval(estimate: dict[str, float] | None) -> str:
    """A share with its interval, for people."""
    if estimate is None:
        return "-"
    low, expected, high = (f"{estimate[key]:.1%}" for key in ("low", "expected", "high"))
    return expected if low == high else f"{expected} ({low} to {high})"


def _saved(receipt: dict[str, Any]) -> str | None:
    if receipt["status"] != "verified":
        return None
    return dollars(receipt["saved_nano_usd"]["expected"])
