"""`meted report`: a month's statement to read, or the books in the FOCUS format for other tools."""

from pathlib import Path

import click

from meted.cli.bill import warn_of_cut
from meted.cli.books import named, wall
from meted.cli.common import common_options, examples, print_json
from meted.cli.moments import Moment, Month
from meted.domain.units import Micros, TenantName
from meted.live import books
from meted.live.books.billing import cut
from meted.live.home import Home


@click.command(
    epilog=examples(
        "meted report --month 2026-11 --out november.html",
        "meted report --month 2026-11 --tenant acme --out acme.html",
        "meted report --month 2026-11 --format pdf --out november.pdf",
        "meted report --month 2026-11 --focus november.parquet",
    )
)
@click.option("--month", type=Month(), help="Which month (UTC), e.g. 2026-11.")
@click.option("--from", "from_us", type=Moment(), help="Instead of a month: what began from here.")
@click.option("--to", "to_us", type=Moment(), help="What began before; default: now.")
@click.option("--tenant", callback=named("tenant"), help="Only what is this tenant's own.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the statement; default: to standard output (HTML).",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["html", "pdf"]),
    help="Default: by the ending of --out, else html.",
)
@click.option(
    "--focus",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the books in the FOCUS format instead: FILE.csv or FILE.parquet.",
)
@click.option("--books", "target", help="A file or postgresql:// address instead of the home's.")
@common_options
def report(
    month: tuple[Micros, Micros] | None,
    from_us: Micros | None,
    to_us: Micros | None,
    tenant: str | None,
    out: Path | None,
    style: str | None,
    focus: Path | None,
    target: str | None,
    home: Home,
    as_json: bool,
) -> None:
    """Write a statement: totals, tenants, deployments, jobs, idle time, and what to fix."""
    begins, ends = _period(month, from_us, to_us)
    where = target or home.store()
    whose = TenantName(tenant) if tenant else None
    warn_of_cut(cut(where, from_us=begins, to_us=ends))
    if focus is not None:
        if out is not None or style is not None:
            raise click.UsageError("--focus names its own file; leave out --out and --format")
        _focus(where, focus, begins, ends, whose, as_json=as_json)
        return
    found = books.statement(where, from_us=begins, to_us=ends, tenant=whose)
    if as_json:
        print_json(found)
        return
    chosen = style or ("pdf" if out is not None and out.suffix.lower() == ".pdf" else "html")
    if chosen == "pdf":
        if out is None:
            raise click.UsageError("--format pdf needs --out FILE")
        from meted.cli.report_pdf import write_pdf

        write_pdf(found, out, made_us=wall())
    else:
        # Only who reports waits for the libraries that draw.
        from meted.cli.report_page import page

        text = page(found, made_us=wall())
        if out is None:
            click.echo(text)
            return
        out.write_text(text, encoding="utf-8")
    click.echo(f"{out} is written")


def _period(
    month: tuple[Micros, Micros] | None, from_us: Micros | None, to_us: Micros | None
) -> tuple[Micros, Micros]:
    if month is not None:
        if from_us is not None or to_us is not None:
            raise click.UsageError("give either --month or --from and --to")
        return month
    if from_us is None:
        raise click.UsageError("give --month, or --from and --to")
    ends = wall() if to_us is None else to_us
    if ends <= from_us:
        raise click.UsageError("--to is not after --from")
    return from_us, ends


def _focus(
    where: str | Path,
    file: Path,
    begins: Micros,
    ends: Micros,
    tenant: TenantName | None,
    *,
    as_json: bool,
) -> None:
    from meted.cli.focus import write_focus

    rows, total = write_focus(where, file, from_us=begins, to_us=ends, tenant=tenant)
    if as_json:
        print_json({"file": str(file), "rows": rows, "billed_nano_usd": total})
    else:
        click.echo(f"{file} is written: {rows} rows")
