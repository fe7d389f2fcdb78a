"""`meted rates`: what tenants are charged, apart from what it cost us. The book only grows."""

from collections.abc import Mapping
from typing import Any

import click

from meted.cli.amounts import Dollars, PerMillion, Thousandths
from meted.cli.books import changing_books, named, open_books, wall
from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.moments import Moment, shown_moment
from meted.cli.render import print_table
from meted.cli.rerated import print_rerated
from meted.domain.units import SECONDS_PER_HOUR, DeploymentName, Micros, NanoUSD, TenantName
from meted.ledger.rates import ByCost, RateCard, Rates, RateVersion
from meted.live import books
from meted.live.home import Home
from meted.live.money_views import rate_view


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog=examples("meted rates", "meted rates set --by-cost --markup 10%"),
)
@common_options
@click.pass_context
def rates(ctx: click.Context, home: Home, as_json: bool) -> None:
    """Show and set what tenants are charged; re-rate a past period."""
    if ctx.invoked_subcommand is None:
        _list(home, as_json=as_json)


@rates.command("list", epilog=examples("meted rates list", "meted rates list --json"))
@common_options
def list_rates(home: Home, as_json: bool) -> None:
    """List all versions of the rate book, in the order in which they were recorded."""
    _list(home, as_json=as_json)


@rates.command(
    "set",
    epilog=examples(
        "meted rates set --by-cost --markup 10%",
        "meted rates set --tenant acme --input 0.15 --cached 0.03 --output 0.60 --training 0.05",
        "meted rates set --tenant acme --deployment chat --none",
    ),
)
@click.option("--tenant", callback=named("tenant"), help="Whom it is for; default: everybody.")
@click.option("--deployment", callback=named("deployment"), help="Only for it; default: all.")
@click.option("--by-cost", is_flag=True, help="Charge what it cost us.")
@click.option("--markup", type=Thousandths(percent=True), help="On the cost, e.g. 10% or -5%.")
@click.option("--input", "input_rate", type=PerMillion(), help="Dollars a million input tokens.")
@click.option("--cached", type=PerMillion(), help="Dollars a million cached input tokens.")
@click.option("--output", type=PerMillion(), help="Dollars a million output tokens.")
@click.option("--training", type=Dollars(), help="Dollars a device-hour of training.")
@click.option("--none", "ends", is_flag=True, help="End this scope's own rates.")
@click.option("--from", "from_us", type=Moment(), help="From when on it holds; default: now.")
@click.option("--note", default="", help="Why, for whoever reads the book later.")
@common_options
def set_rates(
    tenant: str | None,
    deployment: str | None,
    by_cost: bool,
    markup: int | None,
    input_rate: int | None,
    cached: int | None,
    output: int | None,
    training: NanoUSD | None,
    ends: bool,
    from_us: Micros | None,
    note: str,
    home: Home,
    as_json: bool,
) -> None:
    """Append a version to the rate book. A past period changes only once it is re-rated."""
    card = {"input": input_rate, "cached": cached, "output": output, "training": training}
    chosen = _chosen(by_cost=by_cost, markup=markup, card=card, ends=ends)
    now = wall()
    version = RateVersion(
        effective=now if from_us is None else from_us,
        recorded=now,
        rates=chosen,
        tenant=None if tenant is None else TenantName(tenant),
        deployment=None if deployment is None else DeploymentName(deployment),
        note=note,
    )
    with changing_books(home) as store:
        added = store.add_rate(version)
    if as_json:
        print_json(rate_view(added))
        return
    click.echo(f"{_scope(added)}: {_terms(added)} from {shown_moment(added.effective)}")
    if added.effective < now:
        click.echo("past requests keep their prices; `meted rates rerate` corrects them")


def _chosen(
    *, by_cost: bool, markup: int | None, card: Mapping[str, int | None], ends: bool
) -> Rates | None:
    given = [name for name, rate in card.items() if rate is not None]
    if by_cost + bool(given) + ends != 1:
        raise click.UsageError(
            "give one of --by-cost, a card (--input, --cached, --output, --training) and --none"
        )
    if markup is not None and not by_cost:
        raise click.UsageError("--markup is for --by-cost")
    if ends:
        return None
    if by_cost:
        try:
            return ByCost(markup_permille=markup or 0)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    missing = [f"--{name}" for name in ("input", "output") if card[name] is None]
    if missing:
        raise click.UsageError(f"a card needs {' and '.join(missing)}; 0 is free of charge")
    hourly = card["training"] or 0
    return RateCard(
        input=card["input"] or 0,
        cached_input=(card["input"] if card["cached"] is None else card["cached"]) or 0,
        output=card["output"] or 0,
        training=(2 * hourly + SECONDS_PER_HOUR) // (2 * SECONDS_PER_HOUR),
    )


@rates.command(
    epilog=examples('meted rates rerate --from 7d --reason "acme was promised the old rates"')
)
@click.option("--from", "from_us", type=Moment(), required=True, help="What began from here on.")
@click.option("--to", "to_us", type=Moment(), help="What began before; default: now.")
@click.option("--reason", required=True, help="Why; it stays in the books.")
@common_options
def rerate(from_us: Micros, to_us: Micros | None, reason: str, home: Home, as_json: bool) -> None:
    """Correct what tenants were charged, as the rate book has it now. Nothing is edited."""
    now = wall()
    ends = now if to_us is None else to_us
    with changing_books(home) as store:
        done = books.rerate_prices(
            home.store(), from_us=from_us, to_us=ends, reason=reason, now=now
        )
        print_rerated(
            store,
            done,
            action="rates.rerate",
            subject="any tenant",
            detail={"from_us": from_us, "to_us": ends, "reason": reason},
            changed="requests and charges",
            as_json=as_json,
        )


def _list(home: Home, *, as_json: bool) -> None:
    with open_books(home) as store:
        versions = store.rate_book().versions
    if as_json:
        print_json([rate_view(version) for version in versions])
    elif versions:
        print_table(
            ("for", "charge", "holds from", "recorded", "note"),
            [
                (
                    *(_scope(one), _terms(one), shown_moment(one.effective)),
                    *(shown_moment(one.recorded), one.note),
                )
                for one in versions
            ],
        )
    else:
        click.echo(
            "no rates yet; until `meted rates set` sets some, tenants are charged what it cost"
        )


def _scope(version: RateVersion) -> str:
    who = version.tenant or "everybody"
    return f"{who} on {version.deployment}" if version.deployment else who


def _terms(version: RateVersion) -> str:
    shown: dict[str, Any] | None = rate_view(version)["rates"]
    if shown is None:
        return "none of its own"
    if shown["charge"] == "cost":
        markup = shown["markup_permille"]
        return "by cost" if not markup else f"by cost {'+' if markup > 0 else ''}{markup / 10:g} %"
    tokens = "/".join(
        _short(shown[f"{kind}_usd_per_million"]) for kind in ("input", "cached_input", "output")
    )
    training = _short(shown["training_usd_per_device_second"])
    return f"${tokens} a million input/cached/output, ${training} a device-second of training"


def _short(amount: str) -> str:
    whole, _, part = amount.partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"
