"""SQLite's third schema: what a house writes down of its levers. Never edit it."""

from meted.live.stores.schema.sqlite_2 import NEVER_DELETED, NEVER_UPDATED

DOCUMENTS = "documents"

_TABLE = """
CREATE TABLE documents (
    position INTEGER PRIMARY KEY,
    house TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX documents_by_name ON documents (house, kind, name, position);
"""

THIRD = _TABLE + NEVER_UPDATED.format(table=DOCUMENTS) + NEVER_DELETED.format(table=DOCUMENTS)
