"""Stores: the books in SQLite or in PostgreSQL, by the same statements."""

from pathlib import Path

from meted.live.store import Store
from meted.live.stores.sql_store import SqlStore
from meted.live.stores.sqlite import SqliteDatabase


def open_store(target: str | Path, *, house: str) -> Store:
    """The store at a path (SQLite) or a `postgresql://` address, brought to the newest schema.

    house: the id under which it leases, and which owns what it remembers.
    Raises StoreError if it is no database of Meted's, and StoreDownError if it cannot be reached.
    """
    return SqlStore(SqliteDatabase(Path(target)), house=house)
