"""`meted facts prices`: example prices, those of a price file, or those of a catalogue."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from meted.cli.common import common_options, examples, print_json
from meted.cli.fact_files import FILE, facts_option, read_facts
from meted.cli.render import decimal, print_table
from meted.domain.catalogue import lookup_device_kind
from meted.domain.catalogue.example_prices import EXAMPLE_PRICES
from meted.domain.market import Offer, Purchase
from meted.live.facts import FactError
from meted.live.facts.price_file import price_file_text, read_price_file
from meted.live.facts.sky_catalogue import read_sky_catalogue
from meted.live.home import Home


@click.command(
    "prices",
    epilog=examples(
        "meted facts prices",
        "meted facts prices h100",
        "meted facts prices --file prices.yaml",
        "meted facts prices --import aws/vms.csv --provider aws --region us-east-1 "
        "--out prices.yaml",
    ),
)
@click.argument("name", required=False)
@click.option("--file", "price_file", type=FILE, help="Show this price file, not the examples.")
@click.option("--import", "catalogue", type=FILE, help="Take offers from a catalogue's CSV.")
@click.option("--provider", default="", help="Import: whose catalogue it is.")
@click.option("--region", "regions", multiple=True, help="Import: only this one; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the offers as a price file.")
@facts_option
@common_options
def show_prices(
    name: str | None,
    price_file: Path | None,
    catalogue: Path | None,
    provider: str,
    regions: tuple[str, ...],
    out: Path | None,
    facts_file: Path | None,
    home: Home,
    as_json: bool,
) -> None:
    """List dated example prices or those of a price file; import a catalogue's."""
    if price_file is not None and catalogue is not None:
        raise click.UsageError("give either --file or --import")
    if catalogue is None and (provider or regions):
        raise click.UsageError("--provider and --region are for --import")
    more = read_facts(facts_file).devices
    if catalogue is not None:
        offers = _imported(catalogue, provider, regions)
    else:
        offers = EXAMPLE_PRICES if price_file is None else read_price_file(price_file, more)
    if name is not None:
        kind = lookup_device_kind(name, more).name
        offers = tuple(one for one in offers if one.kind == kind)
    if out is not None:
        _write(out, offers)
    elif as_json:
        print_json([_offer(one) for one in offers])
    elif offers:
        _print_offers(offers)
    else:
        click.echo("no offers of that kind")


def _imported(path: Path, provider: str, regions: tuple[str, ...]) -> tuple[Offer, ...]:
    """A catalogue's offers, dated by the file, whose prices are no newer."""
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    found = read_sky_catalogue(path, provider=provider, dated=changed, regions=regions)
    for reason, rows in sorted(found.left_out.items()):
        click.echo(f"left out {rows} rows: {reason}", err=True)
    if any(one.purchase is Purchase.SPOT for one in found.offers):
        click.echo(
            "a catalogue does not say how often spot devices vanish; add "
            "interruptions_per_device_hour to its offers",
            err=True,
        )
    if not found.offers:
        raise FactError(
            f"{path} has no offer of a known device kind{' in that region' if regions else ''}; "
            "`meted facts devices` lists the kinds"
        )
    return found.offers


def _write(path: Path, offers: Sequence[Offer]) -> None:
    if not offers:
        raise FactError(f"there is no offer to write to {path}; ask for another kind")
    try:
        path.write_text(price_file_text(offers), encoding="utf-8")
    except OSError as error:
        raise FactError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    click.echo(f"{len(offers)} offers in {path}", err=True)


def _offer(one: Offer) -> dict[str, Any]:
    return {**asdict(one), "usd_per_device_hour": decimal(one.nano_usd_per_device_hour)}


def _print_offers(offers: Sequence[Offer]) -> None:
    print_table(
        ("device", "is", "usd per device-hour", "devices", "from", "region", "dated", "source"),
        [
            (
                *(one.kind, one.purchase, decimal(one.nano_usd_per_device_hour), one.devices),
                *(one.provider, one.region, one.dated, one.source),
            )
            for one in offers
        ],
        right=("usd per device-hour", "devices"),
    )
