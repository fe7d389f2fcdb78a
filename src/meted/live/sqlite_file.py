"""The books as their first schema showed them, for readers that still ask in its words.

`books` reads through this until it asks over the seam in `stores.database`.
"""

import sqlite3
from pathlib import Path

from meted.live.stores.sqlite import explained, open_to_read

__all__ = ["explained", "read_books"]

_FORMER_LINES = """
CREATE TEMP VIEW lines AS
SELECT session, number, position, kind, nullif(tenant, '') AS tenant,
    nullif(deployment, '') AS deployment, nullif(job, '') AS job, request, note,
    device_nanos, amount
FROM main.lines JOIN main.accounts ON accounts.id = lines.account
"""


def read_books(path: Path) -> sqlite3.Connection:
    """A connection that only reads. Raises StoreError if there are no books that can be read."""
    connection = open_to_read(path)
    with explained(path):
        connection.execute("PRAGMA query_only = OFF")
        connection.execute(_FORMER_LINES)
        connection.execute("PRAGMA query_only = ON")
    return connection
