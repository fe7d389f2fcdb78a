"""Transactions that overlap at the worst moment: one has done its work and is not durable yet."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from meted.domain.units import Micros, NanoUSD
from meted.ledger.windows import window_of
from meted.live.store import Batch, Lease, LeaseWish, Store
from meted.live.stores import open_database, open_store
from meted.live.stores.database import Database, Statements
from meted.live.stores.sql_store import SqlStore
from meted.testing.store_rows import START, budget, charge_row

UNTIL = Micros(2**62)
HARD = budget("hard", 100)
WINDOW = window_of(HARD, Micros(START))


class SlowDatabase:
    """Keeps each transaction open after its work, once told to, until it is let go."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.slow = False
        self.worked = threading.Event()
        self.go = threading.Event()

    def write(self, work: Callable[[Statements], Any]) -> Any:
        def held(db: Statements) -> Any:
            result = work(db)
            if self.slow:
                self.worked.set()
                assert self.go.wait(30)
            return result

        return self._inner.write(held)

    def read(self, work: Callable[[Statements], Any]) -> Any:
        return self._inner.read(work)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "books.sqlite")
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


class Overlap:
    """A slow house and a quick one."""

    def __init__(self, target: str) -> None:
        self.database = SlowDatabase(open_database(target))
        self.slow: Store = SqlStore(self.database, house="slow")
        self.quick = open_store(target, house="quick")
        self.quick.save_budget(HARD)

    @contextmanager
    def held(self, call: Callable[[Store], Any]) -> Generator[tuple[Future[Any], Any]]:
        """The slow house is in the middle of a call; yields that, and how to run the quick one."""
        with ThreadPoolExecutor(max_workers=2) as threads:
            self.database.slow = True
            first = threads.submit(call, self.slow)
            assert self.database.worked.wait(30)
            try:
                yield first, lambda quick: threads.submit(quick, self.quick)
            finally:
                self.database.go.set()

    def then(self, first: Callable[[Store], Any], second: Callable[[Store], Any]) -> Any:
        """The second call begins while the first is not durable; returns what it answers."""
        with self.held(first) as (slow, submit):
            quick: Future[Any] = submit(second)
            with pytest.raises(TimeoutError):
                quick.result(0.3)
            self.database.go.set()
            slow.result(30)
            self.database.slow = False
            return quick.result(30)


def lease(store: Store) -> Lease:
    wish = LeaseWish(window=WINDOW, granted=NanoUSD(60), least=NanoUSD(60))
    (granted,) = store.lease([wish], now=Micros(START), until=UNTIL)
    return granted


def charge(store: Store) -> None:
    store.write(Batch(session="s", charges=(charge_row(0, 7),)))


@pytest.fixture
def overlap(target: str) -> Generator[Overlap]:
    both = Overlap(target)
    with closing(both.slow), closing(both.quick):
        yield both


def test_a_new_window_counts_what_was_being_written(overlap: Overlap) -> None:
    assert overlap.then(charge, lease).all_spent == 7


def test_a_charge_waits_for_the_window_that_is_being_made(overlap: Overlap) -> None:
    overlap.then(lease, charge)
    assert lease(overlap.quick).all_spent == 7


def test_two_houses_are_never_granted_the_same_money(overlap: Overlap) -> None:
    lease(overlap.quick)
    overlap.quick.reclaim()
    granted = overlap.then(lease, lease)
    assert (granted.granted, granted.all_granted) == (40, 100)


def test_a_charge_in_a_new_budget_waits_for_who_is_granted_of_it(overlap: Overlap) -> None:
    overlap.quick.lease(
        [LeaseWish(window=WINDOW, granted=NanoUSD(0), least=NanoUSD(0))],
        now=Micros(START),
        until=UNTIL,
    )
    overlap.then(lease, charge)
    (standing,) = overlap.quick.standings(now=Micros(START))
    assert (standing.all_granted, standing.all_spent) == (67, 7)
