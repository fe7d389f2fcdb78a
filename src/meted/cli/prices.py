"""`meted prices`: what a device-hour costs us, by device kind and time. The book only grows."""

from datetime import timedelta
from typing import Any

import click

from meted.cli.amounts import Dollars, Thousandths
from meted.cli.books import changing_books, open_books, wall
from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.moments import Moment, Span, shown_moment
from meted.cli.render import print_table
from meted.cli.rerated import print_rerated
from meted.domain.units import Micros, NanoUSD
from meted.ledger.price_book import PERMILLE, Owned, PriceVersion, Rented
from meted.live import books
from meted.live.books.rerates import DEVICE_KIND
from meted.live.home import Home
from meted.live.money_views import price_view


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    epilog=examples("meted prices", "meted prices set --usd-per-hour 0.03"),
)
@common_options
@click.pass_context
def prices(ctx: click.Context, home: Home, as_json: bool) -> None:
    """Show and set what devices cost; re-rate a past period."""
    if ctx.invoked_subcommand is None:
        _list(home, as_json=as_json)


@prices.command("list", epilog=examples("meted prices list", "meted prices list --json"))
@common_options
def list_prices(home: Home, as_json: bool) -> None:
    """List all versions of the price book, in the order in which they were recorded."""
    _list(home, as_json=as_json)


@prices.command(
    "set",
    epilog=examples(
        "meted prices set --usd-per-hour 0.03",
        "meted prices set --usd-per-hour 0.012 --spot --from 2026-11-01T00:00+00:00",
        "meted prices set --owned --purchase 240 --lifetime 5y --watts 12 --usd-per-kwh 0.30 "
        "--pue 1.2",
    ),
)
@click.option("--kind", default=DEVICE_KIND, show_default=True, help="Which kind of device.")
@click.option("--usd-per-hour", type=Dollars(), help="What a rented device-hour costs.")
@click.option("--spot", is_flag=True, help="Rented at a price that the lessor may end.")
@click.option("--owned", is_flag=True, help="Bought: the price follows from what is given below.")
@click.option("--purchase", type=Dollars(), help="Owned: a device's share of the purchase.")
@click.option("--lifetime", type=Span(), help="Owned: over how long it is written off, e.g. 5y.")
@click.option("--watts", type=Thousandths(), help="Owned: its mean draw at the wall.")
@click.option("--usd-per-kwh", type=Dollars(), help="Owned: what electricity costs.")
@click.option(
    "--pue", type=Thousandths(), help="Owned: facility over equipment energy; default: 1."
)
@click.option("--care", type=Dollars(), help="Owned: staff, space and repairs in a year.")
@click.option(
    "--utilisation",
    type=Thousandths(),
    help="Owned: the share of hours in which the price must be earned; default: 1, because the "
    "books enter idle hours, too.",
)
@click.option("--from", "from_us", type=Moment(), help="From when on it holds; default: now.")
@click.option("--note", default="", help="Why, for whoever reads the book later.")
@common_options
def set_price(
    kind: str,
    usd_per_hour: NanoUSD | None,
    spot: bool,
    owned: bool,
    from_us: Micros | None,
    note: str,
    home: Home,
    as_json: bool,
    **bought: Any,
) -> None:
    """Append a version to the price book. A past period changes only once it is re-rated."""
    if owned == (usd_per_hour is not None):
        raise click.UsageError("give either --usd-per-hour or --owned")
    if owned:
        basis: Rented | Owned = _owned(**bought)
    else:
        given = [
            f"--{name.replace('_', '-')}" for name, value in bought.items() if value is not None
        ]
        if given:
            raise click.UsageError(f"{', '.join(given)} is for --owned")
        assert usd_per_hour is not None
        basis = Rented(nano_usd_per_device_hour=usd_per_hour, spot=spot)
    if owned and spot:
        raise click.UsageError("--spot is for a rented device")
    now = wall()
    version = PriceVersion(
        device_kind=kind,
        effective=now if from_us is None else from_us,
        recorded=now,
        basis=basis,
        note=note,
    )
    with changing_books(home) as store:
        added = store.add_price(version)
    shown = price_view(added)
    if as_json:
        print_json(shown)
        return
    click.echo(
        f"{kind}: ${shown['usd_per_device_hour']} per device-hour from "
        f"{shown_moment(added.effective)}"
    )
    if added.effective < now:
        click.echo("closed intervals keep their amounts; `meted prices rerate` corrects them")


def _owned(
    *,
    purchase: NanoUSD | None,
    lifetime: timedelta | None,
    watts: int | None,
    usd_per_kwh: NanoUSD | None,
    pue: int | None,
    care: NanoUSD | None,
    utilisation: int | None,
) -> Owned:
    needed = {
        "--purchase": purchase,
        "--lifetime": lifetime,
        "--watts": watts,
        "--usd-per-kwh": usd_per_kwh,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise click.UsageError(f"--owned needs {', '.join(missing)}")
    assert purchase is not None and lifetime is not None
    assert watts is not None and usd_per_kwh is not None
    try:
        return Owned(
            purchase=purchase,
            lifetime_hours=round(lifetime / timedelta(hours=1)),
            milliwatts=watts,
            nano_usd_per_kwh=usd_per_kwh,
            pue_permille=PERMILLE if pue is None else pue,
            care_per_year=NanoUSD(0) if care is None else care,
            utilisation_permille=PERMILLE if utilisation is None else utilisation,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@prices.command(
    epilog=examples(
        'meted prices rerate --from 2026-11-01T00:00+00:00 --reason "the invoice of November"'
    )
)
@click.option("--from", "from_us", type=Moment(), required=True, help="Intervals from here on.")
@click.option("--to", "to_us", type=Moment(), help="Intervals before; default: now.")
@click.option("--kind", default=DEVICE_KIND, show_default=True, help="Which kind of device.")
@click.option("--reason", required=True, help="Why; it stays in the books.")
@common_options
def rerate(
    from_us: Micros, to_us: Micros | None, kind: str, reason: str, home: Home, as_json: bool
) -> None:
    """Correct what a past period cost, as the price book has it now. Nothing is edited."""
    now = wall()
    ends = now if to_us is None else to_us
    with changing_books(home) as store:
        done = books.rerate_costs(
            home.store(), from_us=from_us, to_us=ends, reason=reason, now=now, device_kind=kind
        )
        print_rerated(
            store,
            done,
            action="prices.rerate",
            subject=kind,
            detail={"from_us": from_us, "to_us": ends, "reason": reason},
            changed="intervals",
            as_json=as_json,
        )


def _list(home: Home, *, as_json: bool) -> None:
    with open_books(home) as store:
        versions = store.price_book().versions
    if as_json:
        print_json([price_view(version) for version in versions])
    elif versions:
        print_table(
            ("device", "usd per hour", "is", "holds from", "recorded", "note"),
            [
                (
                    *(one.device_kind, price_view(one)["usd_per_device_hour"], _basis(one.basis)),
                    *(shown_moment(one.effective), shown_moment(one.recorded), one.note),
                )
                for one in versions
            ],
            right=("usd per hour",),
        )
    else:
        click.echo(
            "no prices yet; until `meted prices set` sets one, the configuration's "
            "pool.price_usd_per_device_hour holds"
        )


def _basis(basis: Rented | Owned) -> str:
    if isinstance(basis, Owned):
        return "owned"
    return "rented, spot" if basis.spot else "rented"
