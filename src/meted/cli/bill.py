"""`meted bill`: where every device-second and every nano-dollar went, and whether it adds up."""

import csv
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from meted.cli.books import named
from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.moments import Moment
from meted.cli.render import decimal, dollars, print_table
from meted.domain.units import MICROS_PER_SECOND, Micros, TenantName
from meted.ledger.shares import Method
from meted.live import books
from meted.live.books import Bill, BillRow, CheckReport, Dimension, Sharing
from meted.live.books.billing import hour_name
from meted.live.home import Home

MOST_DIMENSIONS = 2
METHODS = {str(method).replace("_", "-"): method for method in Method}


class Reservation(click.ParamType[tuple[TenantName, int]]):
    """A tenant and its weight: `acme=3`."""

    name = "tenant=weight"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[TenantName, int]:
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType]
        tenant, _, weight = str(value).rpartition("=")
        if not tenant or not weight.isdecimal():
            self.fail(f"{value!r} is no reservation; expected e.g. acme=3", param, ctx)
        return TenantName(tenant), int(weight)


@click.command(
    epilog=examples(
        "meted bill",
        "meted bill --by tenant --by kind --from 24h",
        "meted bill --by tenant --shared proportional",
        "meted bill --by request --from 2026-01-31T18:00 --csv > requests.csv",
        "meted bill --check",
    )
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice([str(one) for one in Dimension]),
    help="Break down by this; give it twice for two dimensions (default: kind).",
)
@click.option("--from", "from_us", type=Moment(), help="What began from this moment on.")
@click.option("--to", "to_us", type=Moment(), help="What began before this moment.")
@click.option("--tenant", callback=named("tenant"), help="Only what is this tenant's own.")
@click.option(
    "--shared",
    type=click.Choice(list(METHODS)),
    help="Lay the house's cost (idle, overhead, lost) on tenants, interval by interval.",
)
@click.option(
    "--reserve",
    "reservations",
    multiple=True,
    type=Reservation(),
    help="For by-reservation: a tenant's weight, e.g. acme=3; may be given several times.",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, all rows.")
@click.option("--check", is_flag=True, help="Hold the books against every law; exit 1 on a fault.")
@click.option("--books", "target", help="A file or postgresql:// address instead of the home's.")
@common_options
def bill(
    by: tuple[str, ...],
    from_us: Micros | None,
    to_us: Micros | None,
    tenant: str | None,
    shared: str | None,
    reservations: tuple[tuple[TenantName, int], ...],
    limit: int,
    as_csv: bool,
    check: bool,
    target: str | None,
    home: Home,
    as_json: bool,
) -> None:
    """Show what was used, what it cost and what was charged, from the closed intervals."""
    where = target or home.store()
    if check:
        if by or from_us is not None or to_us is not None or as_csv or tenant or shared:
            raise click.UsageError("--check looks at all the books; give it alone or with --json")
        _check(books.check(where), as_json=as_json)
        return
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    dimensions = [Dimension(one) for one in by] or [Dimension.KIND]
    if len(dimensions) > MOST_DIMENSIONS or len(set(dimensions)) != len(dimensions):
        raise click.UsageError("give --by at most twice, and not the same one")
    if tenant and shared:
        raise click.UsageError("--tenant shows what is its own; the house's cost is not")
    if (shared == "by-reservation") != bool(reservations):
        raise click.UsageError("--shared by-reservation and --reserve go together")
    found = books.bill(
        where,
        by=dimensions,
        from_us=from_us,
        to_us=to_us,
        tenant=TenantName(tenant) if tenant else None,
        shared=METHODS[shared] if shared else None,
        reservations=dict(reservations),
    )
    if as_json:
        print_json(_as_json(found))
    elif as_csv:
        _print_csv(found)
    else:
        _print(found, limit)


def _as_json(found: Bill) -> dict[str, Any]:
    shared = found.sharing is not None

    def row_json(row: BillRow) -> dict[str, Any]:
        body = {**dict(zip(found.by, row.key, strict=True)), **_sums(row)}
        if shared:
            body |= {"shared_nano_usd": row.shared, "shared_usd": decimal(row.shared)}
        return body

    body = {
        "by": list(found.by),
        "intervals": found.intervals,
        "started_us": found.started,
        "ended_us": found.ended,
        **_sums(found),
        "cut_hours": [hour_name(hour) for hour in found.cut_hours],
        "uncharged_device_nanos": found.uncharged,
        "rows": [row_json(row) for row in found.rows],
    }
    if found.sharing is not None:
        body["sharing"] = {
            "method": str(found.sharing.method),
            "direct_nano_usd": found.sharing.direct,
            "shared_nano_usd": found.sharing.shared,
            "unallocated_nano_usd": found.sharing.unallocated,
            "capacity_nano_usd": found.sharing.capacity,
        }
    return body


def _sums(one: Bill | BillRow) -> dict[str, Any]:
    return {
        "device_nanos": one.device_nanos,
        "device_seconds": decimal(one.device_nanos),
        "nano_usd": one.nano_usd,
        "usd": decimal(one.nano_usd),
        "price_nano_usd": one.price,
        "price_usd": decimal(one.price),
    }


def _print_csv(found: Bill) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    shared = ["shared_nano_usd"] if found.sharing is not None else []
    writer.writerow(
        [*found.by, "device_seconds", "usd", "nano_usd", "price_usd", "price_nano_usd", *shared]
    )
    for row in found.rows:
        key = ["" if part is None else part for part in row.key]
        used = [decimal(row.device_nanos), decimal(row.nano_usd), row.nano_usd]
        charged = [decimal(row.price), row.price]
        writer.writerow([*key, *used, *charged, *([row.shared] if shared else [])])


def _print(found: Bill, limit: int) -> None:
    if not found.rows and (found.started is None or found.ended is None):
        click.echo("no closed interval in that time")
        return
    shared = found.sharing is not None
    numbers = ("device-seconds", "cost", "price", *(("shared",) if shared else ()))
    rows = [
        (*row.key, *_cells(row), *((dollars(row.shared),) if shared else ())) for row in found.rows
    ]
    total = ("total", *[""] * (len(found.by) - 1), *_cells(found), *(("",) if shared else ()))
    print_table((*found.by, *numbers), [*rows[:limit], total], right=numbers)
    if len(rows) > limit:
        click.echo(f"{len(rows) - limit} more rows; --limit, --csv or --json show them")
    if found.started is not None and found.ended is not None:
        click.echo(
            f"{found.intervals} intervals from {_local(found.started)} to {_local(found.ended)}"
        )
    if found.uncharged:
        click.echo(
            f"{decimal(found.uncharged)} device-seconds of training since the last checkpoint are "
            "not charged yet"
        )
    if found.sharing is not None:
        _print_sharing(found.sharing)
    warn_of_cut(found.cut_hours)


def warn_of_cut(hours: Sequence[int]) -> None:
    """Say that a limit of time falls into folded hours, which count as a whole or not at all."""
    if hours:
        named_hours = ", ".join(hour_name(hour) for hour in hours)
        click.echo(
            f"folded hours count whole where they begin; the limits cut {named_hours}", err=True
        )


def _cells(one: Bill | BillRow) -> tuple[str, str, str]:
    return decimal(one.device_nanos), dollars(one.nano_usd), dollars(one.price)


def _print_sharing(sharing: Sharing) -> None:
    click.echo(
        f"direct {dollars(sharing.direct)} + shared {dollars(sharing.shared)} + unallocated "
        f"{dollars(sharing.unallocated)} = capacity {dollars(sharing.capacity)}"
    )


def _check(report: CheckReport, *, as_json: bool) -> None:
    if as_json:
        print_json({"balanced": report.balanced, "fault": report.fault, **_report_json(report)})
    else:
        verdict = "everything adds up" if report.balanced else f"NOT: {report.fault}"
        click.echo(f"verdict    {verdict}")
        folded = f", {report.hours} folded hours" if report.hours else ""
        click.echo(f"intervals  {report.intervals} in {report.sessions} sessions{folded}")
        click.echo(
            f"requests   {report.requests + report.folded} ended"
            + (f", {report.folded} of them folded" if report.folded else "")
            + (f", {report.waiting} of them wait for the next interval" if report.waiting else "")
        )
        click.echo(
            f"time       lines {decimal(report.lines_nanos)} device-seconds, "
            f"capacity {decimal(report.capacity_nanos)}"
        )
        click.echo(
            f"money      lines {dollars(report.lines_nano_usd)}, "
            f"capacity x price {dollars(report.capacity_nano_usd)}"
        )
        for law in report.laws:
            click.echo(f"{'ok ' if law.fault is None else 'NOT'} {law.tested:>8}  {law.says}")
            if law.fault is not None:
                click.echo(f"              {law.fault}")
    if not report.balanced:
        raise SystemExit(FAILED)


def _report_json(report: CheckReport) -> dict[str, Any]:
    numbers = (
        *("sessions", "intervals", "hours", "requests", "folded", "waiting"),
        *("capacity_nanos", "lines_nanos", "capacity_nano_usd", "lines_nano_usd"),
    )
    laws = [{"says": law.says, "tested": law.tested, "fault": law.fault} for law in report.laws]
    return {**{name: getattr(report, name) for name in numbers}, "laws": laws}


def _local(at: Micros) -> str:
    moment = datetime.fromtimestamp(at / MICROS_PER_SECOND).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")
