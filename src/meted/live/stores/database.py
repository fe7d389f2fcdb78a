"""The seam between the store's statements, written once, and the database that runs them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from meted.live.store import StoreError

Value = int | str | float | bytes | None
Row = tuple[Any, ...]
T = TypeVar("T")

_HALF = 1_000_000_000


class Statements(Protocol):
    """Statements inside one transaction. Placeholders are `?`; all names are those of the schema.

    for_update: what follows a SELECT that locks its rows until the transaction ends.
    """

    for_update: str

    def rows(self, statement: str, *values: Value) -> list[Row]:
        """All rows of a query, or what a change RETURNs."""
        ...

    def stream(self, statement: str, *values: Value) -> Iterator[Row]:
        """The rows of a query one by one, for answers that need not fit in memory."""
        ...

    def change(self, statement: str, *values: Value) -> int:
        """How many rows a change touched."""
        ...

    def insert(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        """Insert all rows. columns: their names, separated by commas."""
        ...

    def insert_new(self, table: str, columns: str, rows: Sequence[Row], *, key: str) -> list[bool]:
        """Insert those rows whose unique key is not there yet, and say which ones they were."""
        ...

    def exact_sum(self, column: str) -> str:
        """An expression that sums a column beyond 64 bits; read its value with `whole`."""
        ...

    def share_postings(self) -> None:
        """Before anything else: postings may come, as long as nobody counts them up."""
        ...

    def hold_postings(self) -> None:
        """Before anything else: wait for the postings of others to be durable, and let none come
        until this transaction ends."""
        ...


class Database(Protocol):
    """One database, one connection; it may move between threads but is used by one at a time.

    Errors are StoreError, or StoreDownError where the same call may succeed later; then nothing of
    the transaction has happened, or (only if the connection broke at its very end) all of it.
    """

    def write(self, work: Callable[[Statements], T]) -> T:
        """Run in one transaction, durable when this returns; `work` may run more than once."""
        ...

    def read(self, work: Callable[[Statements], T]) -> T:
        """Run queries that all see the same moment."""
        ...

    def close(self) -> None: ...


def whole(value: Any) -> int:
    """The value of an `exact_sum`: null, a number, or text with two halves of one."""
    if value is None:
        return 0
    if isinstance(value, str):
        high, low = value.split()
        return int(high) * _HALF + int(low)
    return int(value)


def halves(column: str) -> str:
    """An `exact_sum` for databases with 64-bit sums, which overflow after 292 device-years."""
    return f"sum({column} / {_HALF}) || ' ' || sum({column} % {_HALF})"


def marks(columns: str) -> str:
    """One placeholder for each column."""
    return ", ".join("?" * (columns.count(",") + 1))


def check_storable(*texts: str) -> None:
    """Raises StoreError for a text that not every database can store: with NUL or half a pair."""
    for text in texts:
        if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise StoreError(
                f"{text!r} cannot be stored, expected Unicode text without NUL; choose another"
            )
