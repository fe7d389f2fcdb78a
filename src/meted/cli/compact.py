"""`meted books`: care of the books themselves."""

from dataclasses import asdict
from datetime import timedelta

import click

from meted.cli.books import open_books, wall
from meted.cli.common import Verbs, common_options, examples, print_json
from meted.cli.moments import Span
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live import books as the_books
from meted.live.home import Home


@click.group("books", cls=Verbs, epilog=examples("meted books compact --older-than 30d --dry-run"))
@common_options
def books(home: Home, as_json: bool) -> None:
    """Fold what is old, so that the books stay small and their sums the same."""


@books.command(
    epilog=examples(
        "meted books compact --older-than 30d --dry-run", "meted books compact --older-than 90d"
    )
)
@click.option("--older-than", type=Span(), required=True, help="Keep what is younger; at least 1d.")
@click.option("--dry-run", is_flag=True, help="Only count what would be folded.")
@common_options
def compact(older_than: timedelta, dry_run: bool, home: Home, as_json: bool) -> None:
    """Fold whole hours of intervals, lines, requests and charges into hourly rows, exactly."""
    now = wall()
    before = Micros(now - round(older_than.total_seconds()) * MICROS_PER_SECOND)
    with open_books(home):
        # Opened so that the books are there, and of the newest schema.
        pass
    try:
        done = the_books.compact(home.store(), before=before, now=now, dry_run=dry_run)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json({"dry_run": dry_run, **asdict(done)})
        return
    if not done.hours and not done.requests and not done.charges:
        click.echo("nothing to fold")
        return
    posted = "" if dry_run else f", {done.requests} requests, {done.charges} charges"
    click.echo(
        f"{'would fold' if dry_run else 'folded'} {done.hours} hours: {done.intervals} intervals, "
        f"{done.lines} lines{posted}"
    )
