"""Folding requests and charges: sums by hour and account, and price corrections with them."""

import contextlib
from collections import defaultdict
from collections.abc import Generator, Mapping

from meted.live.books.cells import FOLDED_CHARGES, FOLDED_REQUESTS, HOUR_US
from meted.live.stores.database import Row, Statements, marks

_TOKENS = "prompt_tokens, cached_tokens, completion_tokens, device_nanos, cost, price"
_REQUESTS = f"hour, account, outcome, requests, {_TOKENS}"
_CHARGES = "hour, account, charges, device_nanos, cost, price"


@contextlib.contextmanager
def folding(db: Statements) -> Generator[None]:
    """Within it entries may be taken away, which triggers forbid otherwise."""
    db.change("INSERT INTO folding (open) VALUES (0)")
    yield
    db.change("DELETE FROM folding")


def fold_requests(db: Statements, where: str, values: tuple[int, ...]) -> int:
    """Fold the requests that a condition names; returns how many they were."""
    corrected = _take_price_corrections(db, "requests", where, values)
    sums: dict[tuple[int, int, str], list[int]] = defaultdict(lambda: [0] * 7)
    moved: dict[tuple[int, str], int] = defaultdict(int)
    gone = db.rows(
        f"DELETE FROM requests WHERE {where} RETURNING id, arrived, account, outcome, {_TOKENS}",
        *values,
    )
    for posting, arrived, account, outcome, *numbers in gone:
        held = sums[arrived // HOUR_US, account, outcome]
        held[0] += 1
        for index, number in enumerate(numbers, start=1):
            held[index] += number
        for rerate, amount in corrected.get(posting, ()):
            name = f"{FOLDED_REQUESTS}{arrived // HOUR_US}/{account}/{outcome}"
            moved[rerate, name] += amount
    for place, numbers in sorted(sums.items()):
        _add(db, "hour_requests", _REQUESTS, (*place, *numbers), key="hour, account, outcome")
    _put_price_corrections(db, moved)
    return len(gone)


def fold_charges(db: Statements, where: str, values: tuple[int, ...]) -> int:
    """Fold the charges that a condition names; returns how many they were."""
    corrected = _take_price_corrections(db, "charges", where, values)
    sums: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 4)
    moved: dict[tuple[int, str], int] = defaultdict(int)
    gone = db.rows(
        f"DELETE FROM charges WHERE {where} RETURNING id, at, account, device_nanos, cost, price",
        *values,
    )
    for posting, at, account, *numbers in gone:
        held = sums[at // HOUR_US, account]
        held[0] += 1
        for index, number in enumerate(numbers, start=1):
            held[index] += number
        for rerate, amount in corrected.get(posting, ()):
            moved[rerate, f"{FOLDED_CHARGES}{at // HOUR_US}/{account}"] += amount
    for place, numbers in sorted(sums.items()):
        _add(db, "hour_charges", _CHARGES, (*place, *numbers), key="hour, account")
    _put_price_corrections(db, moved)
    return len(gone)


def _add(db: Statements, table: str, columns: str, row: Row, *, key: str) -> None:
    """Add numbers to an hour's row, which may be there from requests that ended earlier."""
    numbers = [name for name in columns.split(", ") if name not in key.split(", ")]
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in numbers)
    db.change(
        f"INSERT INTO {table} ({columns}) VALUES ({marks(columns)})"
        f" ON CONFLICT ({key}) DO UPDATE SET {added}",
        *row,
    )


def _take_price_corrections(
    db: Statements, table: str, where: str, values: tuple[int, ...]
) -> dict[str, list[tuple[int, int]]]:
    """Take away the price corrections of postings that will be folded."""
    taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for rerate, posting, amount in db.rows(
        f"DELETE FROM price_corrections WHERE id IN (SELECT id FROM {table} WHERE {where})"
        " RETURNING rerate, id, amount",
        *values,
    ):
        taken[posting].append((rerate, amount))
    return taken


def _put_price_corrections(db: Statements, moved: Mapping[tuple[int, str], int]) -> None:
    """Enter them anew under the names of their hours, with what stands there already."""
    for (rerate, name), amount in sorted(moved.items()):
        there = db.rows(
            "DELETE FROM price_corrections WHERE rerate = ? AND id = ? RETURNING amount",
            *(rerate, name),
        )
        total = amount + sum(before for (before,) in there)
        db.change(
            "INSERT INTO price_corrections (rerate, id, amount) VALUES (?, ?, ?)",
            *(rerate, name, total),
        )
