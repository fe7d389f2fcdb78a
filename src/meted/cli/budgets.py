"""`meted budgets`: what tenants may be charged, straight in the store; a house obeys at once."""

from datetime import UTC, datetime
from typing import Any

import click

from meted.cli.amounts import Dollars
from meted.cli.books import changing_books, named, open_books, wall
from meted.cli.client import connect
from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.render import print_table
from meted.domain.budget import Budget, Period
from meted.domain.units import (
    MICROS_PER_SECOND,
    BudgetName,
    DeploymentName,
    KeyId,
    NanoUSD,
    ProjectName,
    TenantName,
)
from meted.live.home import Home
from meted.live.money_views import budget_view, standing_view

DEFAULT_ALERTS = (50, 80, 100)
MOST_PERCENT = 1_000


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog=examples(
        "meted budgets", "meted budgets set acme-month --tenant acme --period month --limit 50"
    ),
)
@common_options
@click.pass_context
def budgets(ctx: click.Context, home: Home, as_json: bool) -> None:
    """Show how budgets stand; set and remove them."""
    if ctx.invoked_subcommand is None:
        _list(home, as_json=as_json)


@budgets.command("list", epilog=examples("meted budgets list", "meted budgets list --json"))
@common_options
def list_budgets(home: Home, as_json: bool) -> None:
    """Show every budget's limit, and what is spent, reserved and left of it now."""
    _list(home, as_json=as_json)


@budgets.command(
    "set",
    epilog=examples(
        "meted budgets set acme-month --tenant acme --period month --limit 50",
        "meted budgets set chat-day --tenant acme --project chat --period day --limit 2.50 --soft",
        "meted budgets set trial --tenant acme --deployment smollm2-135m --period total --limit 5 "
        "--alert 80 --alert 100",
    ),
)
@click.argument("name", callback=named("name"))
@click.option("--tenant", required=True, callback=named("tenant"), help="Whom it limits.")
@click.option("--project", callback=named("project"), help="Only this project (default: all).")
@click.option("--key", "key_id", help="Only this key, by its id (default: all).")
@click.option(
    "--deployment", callback=named("deployment"), help="Only this deployment (default: all)."
)
@click.option(
    "--period",
    type=click.Choice([str(one) for one in Period]),
    default=str(Period.MONTH),
    show_default=True,
    help="How often it begins anew; days and months are UTC's.",
)
@click.option("--limit", type=Dollars(), required=True, help="Exact dollars, e.g. 12.50.")
@click.option("--soft", is_flag=True, help="Alert only; without it no charge may go over.")
@click.option(
    "--alert",
    "alerts",
    type=click.IntRange(1, MOST_PERCENT),
    multiple=True,
    default=DEFAULT_ALERTS,
    show_default=True,
    help="Per cent of the limit at which to alert; may be given several times.",
)
@common_options
def set_budget(
    name: str,
    tenant: str,
    project: str | None,
    key_id: str | None,
    deployment: str | None,
    period: str,
    limit: NanoUSD,
    soft: bool,
    alerts: tuple[int, ...],
    home: Home,
    as_json: bool,
) -> None:
    """Make a budget, or change its limit, its alerts or whether it is hard."""
    budget = Budget(
        name=BudgetName(name),
        tenant=TenantName(tenant),
        project=None if project is None else ProjectName(project),
        key=None if key_id is None else KeyId(key_id),
        deployment=None if deployment is None else DeploymentName(deployment),
        period=Period(period),
        limit=limit,
        hard=not soft,
        alerts=tuple(sorted(set(alerts))),
    )
    with changing_books(home) as books:
        books.save_budget(budget)
    shown = budget_view(budget)
    if as_json:
        print_json(shown)
    else:
        kind = "hard" if budget.hard else "soft"
        click.echo(f"{name}: {kind}, ${_short(shown['limit_usd'])} {_per(period)}, {_scope(shown)}")


@budgets.command(epilog=examples("meted budgets remove acme-month"))
@click.argument("name")
@common_options
def remove(name: str, home: Home, as_json: bool) -> None:
    """Remove a budget; what was charged in it stays in the books."""
    with changing_books(home) as books:
        books.remove_budget(BudgetName(name))
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        click.echo(f"{name} is removed")


def _list(home: Home, *, as_json: bool) -> None:
    rows = _standings(home)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            ("name", "covers", "period", "limit", "spent", "reserved", "left", "is", "begins anew"),
            [_row(row) for row in rows],
            right=("limit", "spent", "reserved", "left"),
        )
    else:
        click.echo(
            "no budgets yet; `meted budgets set acme-month --tenant acme --limit 50` makes one"
        )


def _standings(home: Home) -> list[dict[str, Any]]:
    """How all budgets stand: a running house knows what it has reserved; else nothing is."""
    if home.running() is not None:
        return connect(home).get("budgets")
    with open_books(home) as store:
        return [
            standing_view(one.budget, one.window, spent=one.all_spent, reserved=NanoUSD(0))
            for one in store.standings(now=wall())
        ]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    money = (row[f"{what}_usd"] for what in ("limit", "spent", "reserved", "left"))
    return (
        *(row["name"], _scope(row), row["period"]),
        *(f"${_short(amount)}" for amount in money),
        "hard" if row["hard"] else "soft",
        _moment(row["resets_us"]),
    )


def _scope(row: dict[str, Any]) -> str:
    parts = [f"{what} {row[what]}" for what in ("project", "key", "deployment") if row[what]]
    return ", ".join([f"tenant {row['tenant']}", *parts])


def _per(period: str) -> str:
    return "in all" if period == Period.TOTAL else f"a {period}"


def _short(amount: str) -> str:
    """An exact amount without zeros that say nothing, but with cents."""
    whole, _, part = amount.partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


def _moment(at: int | None) -> str:
    if at is None:
        return "never"
    return datetime.fromtimestamp(at / MICROS_PER_SECOND, UTC).strftime("%Y-%m-%d %H:%MZ")
