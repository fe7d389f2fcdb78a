"""`meted bill`: where every device-second and every nano-dollar went, and whether it adds up."""

import csv
import re
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click

from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.render import decimal, dollars, print_table
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live import books
from meted.live.books import Bill, BillRow, Dimension
from meted.live.home import Home

MOST_DIMENSIONS = 2
_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[Micros]):
    """An ISO date-time (local time unless it says otherwise), or how long ago: 30m, 1h, 7d."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Micros:
        if isinstance(value, int):
            return Micros(value)
        if ago := _AGO.fullmatch(value):
            at = datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        else:
            try:
                at = datetime.fromisoformat(value).astimezone()
            except ValueError:
                self.fail(
                    f"{value!r} is no moment; expected e.g. 2026-01-31T18:00 or 30m, 1h, 7d ago",
                    param,
                    ctx,
                )
        return Micros(round(at.timestamp() * MICROS_PER_SECOND))


@click.command(
    epilog=examples(
        "meted bill",
        "meted bill --by tenant --by kind --from 24h",
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
@click.option("--from", "from_us", type=Moment(), help="Intervals from this moment on.")
@click.option("--to", "to_us", type=Moment(), help="Intervals before this moment.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, all rows.")
@click.option("--check", is_flag=True, help="Verify every closed interval; exit 1 if one is off.")
@common_options
def bill(
    by: tuple[str, ...],
    from_us: Micros | None,
    to_us: Micros | None,
    limit: int,
    as_csv: bool,
    check: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Show what was used and what it cost, from the closed intervals of the books."""
    if check:
        if by or from_us is not None or to_us is not None or as_csv:
            raise click.UsageError("--check looks at all the books; give it alone or with --json")
        _check(home, as_json=as_json)
        return
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    dimensions = [Dimension(one) for one in by] or [Dimension.KIND]
    if len(dimensions) > MOST_DIMENSIONS or len(set(dimensions)) != len(dimensions):
        raise click.UsageError("give --by at most twice, and not the same one")
    found = books.bill(home.books, by=dimensions, from_us=from_us, to_us=to_us)
    if as_json:
        print_json(_as_json(found))
    elif as_csv:
        _print_csv(found)
    else:
        _print(found, limit)


def _as_json(found: Bill) -> dict[str, Any]:
    def row_json(row: BillRow) -> dict[str, Any]:
        return {**dict(zip(found.by, row.key, strict=True)), **_sums(row)}

    return {
        "by": list(found.by),
        "intervals": found.intervals,
        "started_us": found.started,
        "ended_us": found.ended,
        **_sums(found),
        "rows": [row_json(row) for row in found.rows],
    }


def _sums(one: Bill | BillRow) -> dict[str, Any]:
    return {
        "device_nanos": one.device_nanos,
        "device_seconds": decimal(one.device_nanos),
        "nano_usd": one.nano_usd,
        "usd": decimal(one.nano_usd),
    }


def _print_csv(found: Bill) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*found.by, "device_seconds", "usd", "nano_usd"])
    for row in found.rows:
        key = ["" if part is None else part for part in row.key]
        writer.writerow([*key, decimal(row.device_nanos), decimal(row.nano_usd), row.nano_usd])


def _print(found: Bill, limit: int) -> None:
    if found.started is None or found.ended is None:
        click.echo("no closed interval in that time")
        return
    rows = [(*row.key, decimal(row.device_nanos), dollars(row.nano_usd)) for row in found.rows]
    total = (
        *("total", *[""] * (len(found.by) - 1)),
        *(decimal(found.device_nanos), dollars(found.nano_usd)),
    )
    print_table(
        (*found.by, "device-seconds", "cost"),
        [*rows[:limit], total],
        right=("device-seconds", "cost"),
    )
    if len(rows) > limit:
        click.echo(f"{len(rows) - limit} more rows; --limit, --csv or --json show them")
    click.echo(f"{found.intervals} intervals from {_local(found.started)} to {_local(found.ended)}")


def _check(home: Home, *, as_json: bool) -> None:
    report = books.check(home.books)
    if as_json:
        print_json({"balanced": report.balanced, **asdict(report)})
    else:
        verdict = "every closed interval adds up" if report.balanced else f"NOT: {report.fault}"
        click.echo(f"verdict    {verdict}")
        click.echo(f"intervals  {report.intervals} in {report.sessions} sessions")
        click.echo(
            f"requests   {report.requests} ended"
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
    if not report.balanced:
        raise SystemExit(FAILED)


def _local(at: Micros) -> str:
    moment = datetime.fromtimestamp(at / MICROS_PER_SECOND).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")
