"""What a house writes down of its levers, version by version: none is ever changed."""

from collections.abc import Sequence

from meted.live.store import Document
from meted.live.stores.database import Database, Statements, check_storable

_COLUMNS = "house, kind, name, body"


class Documents:
    """Documents of one house by kind and name; the newest version of each is in force."""

    def __init__(self, database: Database, house: str) -> None:
        self._database = database
        self._house = house

    def append(self, documents: Sequence[Document]) -> None:
        """All of them, or none."""
        for one in documents:
            check_storable(one.kind, one.name, one.body)
        rows = [(self._house, one.kind, one.name, one.body) for one in documents]

        def work(db: Statements) -> None:
            # Numbers of rows are given in order within one transaction only.
            for row in rows:
                db.insert("documents", _COLUMNS, [row])

        self._database.write(work)

    def newest(self, kind: str) -> list[Document]:
        """The newest version of each name, in the order in which the names first came."""
        rows = self._database.read(
            lambda db: db.rows(
                "SELECT documents.name, documents.body FROM documents JOIN"
                " (SELECT name, min(position) AS first, max(position) AS last FROM documents"
                " WHERE house = ? AND kind = ? GROUP BY name) AS spans"
                " ON documents.position = spans.last ORDER BY spans.first",
                *(self._house, kind),
            )
        )
        return [Document(kind=kind, name=name, body=body) for name, body in rows]

    def versions(self, kind: str, name: str) -> list[Document]:
        """All versions of one document, oldest first."""
        rows = self._database.read(
            lambda db: db.rows(
                "SELECT body FROM documents WHERE house = ? AND kind = ? AND name = ?"
                " ORDER BY position",
                *(self._house, kind, name),
            )
        )
        return [Document(kind=kind, name=name, body=body) for (body,) in rows]
