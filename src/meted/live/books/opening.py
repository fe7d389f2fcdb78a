"""Which books are meant: a path, an address of PostgreSQL, or a database that is open already."""

import contextlib
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import Any

from meted.live.store import StoreError
from meted.live.stores.database import Database
from meted.live.stores.sqlite import SqliteDatabase

Target = Path | str | Database
"""Where the books are."""

ADDRESSES = ("postgresql://", "postgres://")


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
    if isinstance(target, str) and target.startswith(ADDRESSES):
        # Its driver is an optional library, which SQLite's users need not have.
        postgres: Any = import_module("meted.live.stores.postgres")
        return postgres.PostgresDatabase(target, read_only=read_only)
    path = Path(target)
    if not path.exists():
        raise StoreError(f"there are no books at {path} yet; `meted up` begins them")
    return SqliteDatabase(path, read_only=read_only)
