"""Which books are meant: a path, an address of PostgreSQL, or a database that is open already."""

import contextlib
from collections.abc import Generator
from pathlib import Path

from meted.live.store import StoreError
from meted.live.stores import POSTGRES_SCHEMES, open_database
from meted.live.stores.database import Database

Target = Path | str | Database
"""Where the books are."""


@contextlib.contextmanager
def opened(target: Target, *, write: bool = False) -> Generator[Database]:
    """The database of a target, closed at the end if it was opened here.

    Nothing is created, and without `write` nothing is migrated.
    Raises StoreError if there are no books.
    """
    if not isinstance(target, Path | str):
        yield target
        return
    with contextlib.closing(_open(target, read_only=not write)) as database:
        yield database


def _open(target: Path | str, *, read_only: bool) -> Database:
    if not str(target).startswith(POSTGRES_SCHEMES) and not Path(target).exists():
        raise StoreError(f"there are no books at {target} yet; `meted up` begins them")
    return open_database(target, read_only=read_only)
