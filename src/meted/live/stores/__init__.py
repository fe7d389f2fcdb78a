"""Stores: the books in SQLite or in PostgreSQL, by the same statements."""

from pathlib import Path

from meted.live.store import Store
from meted.live.stores.database import Database
from meted.live.stores.sql_store import SqlStore
from meted.live.stores.sqlite import SqliteDatabase

POSTGRES_SCHEMES = ("postgresql://", "postgres://")


def open_database(target: str | Path, *, read_only: bool = False) -> Database:
    """The database at a path (SQLite) or a `postgresql://` address.

    It is made and brought to the newest schema, unless it is only to be read: then it must be.
    Raises StoreError if it is no database of Meted's, and StoreDownError if it cannot be reached.
    """
    if isinstance(target, str) and target.startswith(POSTGRES_SCHEMES):
        # Only who uses PostgreSQL waits for its driver.
        from meted.live.stores.postgres import PostgresDatabase

        return PostgresDatabase(target, read_only=read_only)
    return SqliteDatabase(Path(target), read_only=read_only)


def open_store(target: str | Path, *, house: str) -> Store:
    """The store in the database at `target`.

    house: the id under which it leases, and which owns what it remembers.
    Raises what `open_database` raises.
    """
    return SqlStore(open_database(target), house=house)
