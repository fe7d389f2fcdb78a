"""The books as verbs change them: in the store, in the audit log, and told to a running house."""

import getpass
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

import click

from meted.cli.client import connect
from meted.cli.common import NoHouseError
from meted.domain.units import Micros
from meted.live.audited import AuditedStore
from meted.live.home import Home
from meted.live.names import check_name
from meted.live.store import Store
from meted.live.stores import open_store


@contextmanager
def open_books(home: Home) -> Generator[Store]:
    """The store of a home, whether its house runs or not."""
    home.prepare()
    with closing(open_store(home.store(), house=home.house_id())) as store:
        yield store


@contextmanager
def changing_books(home: Home) -> Generator[AuditedStore]:
    """The store of a home, to be changed; a running house is told once that is durable."""
    with open_books(home) as store:
        yield AuditedStore(store, wall=wall, actor=f"cli:{_who()}")
    _tell(home)


def wall() -> Micros:
    return Micros(time.time_ns() // 1_000)


def named(what: str, *, empty: bool = False, slash: bool = False) -> Callable[..., str | None]:
    """A callback of an option or argument: its name as it must be, see `check_name`."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return check_name(value, what, empty=empty, slash=slash)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return check


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _tell(home: Home) -> None:
    """Make a running house read the change now; without it, it would notice by itself soon."""
    if not home.locked():
        return
    try:
        connect(home).post("refresh")
    except NoHouseError as error:
        click.echo(f"it is in the books; the house will read it soon: {error.message}", err=True)
