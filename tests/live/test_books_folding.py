"""Folding keeps every sum, on random books in both databases; bills and checks cannot tell."""

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from books_maker import HOUR_US, START, BooksMaker
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.units import Micros, NanoUSD, TenantName
from meted.ledger.price_book import PriceVersion, Rented
from meted.ledger.rates import ByCost, RateVersion
from meted.ledger.shares import Method
from meted.live import books
from meted.live.books import Bill, Dimension, Target
from meted.live.store import Batch, StoreError
from meted.live.stores import open_database, open_store
from meted.live.stores.schema.sqlite_1 import FIRST
from meted.live.stores.sqlite import APPLICATION_ID
from meted.testing.postgres import PostgresServer

NOW = Micros(START + 1_000 * HOUR_US)
DIMENSIONS = [one for one in Dimension if one is not Dimension.REQUEST]
PAIRS = [*combinations(DIMENSIONS, 2), (Dimension.HOUR, Dimension.KIND)]


def write(path: str | Path, seed: int, hours: list[float], *, at_rest: bool) -> BooksMaker:
    with closing(open_store(path, house="here")) as store:
        maker = BooksMaker(store, random.Random(seed))
        for number, length in enumerate(hours):
            maker.recover()
            crash = number < len(hours) - 1 and maker.rng.random() < 0.5
            maker.session(hours=length, crash=crash, at_rest=at_rest)
        maker.recover()
        return maker


def rerate(target: Target, rng: random.Random, end: int) -> None:
    """A new price for a part of the past, and new rates."""
    begin = START + rng.randrange(0, max(1, end - START))
    with closing(open_store(target, house="other")) as store:  # pyright: ignore[reportArgumentType]
        recorded = Micros(NOW - 1_000 + 10 * len(store.price_book().versions))
        store.add_price(
            PriceVersion(
                device_kind="cpu-core",
                effective=Micros(0 if not store.price_book().versions else begin),
                recorded=recorded,
                basis=Rented(nano_usd_per_device_hour=rng.randrange(0, 10**8)),
            )
        )
        store.add_rate(
            RateVersion(
                effective=Micros(begin),
                recorded=recorded,
                rates=ByCost(markup_permille=rng.randrange(-500, 500)),
            )
        )
    span = {"from_us": Micros(begin), "to_us": Micros(end), "reason": "test"}
    now = Micros(recorded + 1)
    books.rerate_costs(target, **span, now=now)
    books.rerate_prices(target, **span, now=now)


def bills(path: str | Path, windows: list[tuple[Micros, Micros]]) -> list[Bill]:
    with closing(open_database(path, read_only=True)) as target:
        return bills_of(target, windows)


def bills_of(target: Target, windows: list[tuple[Micros, Micros]]) -> list[Bill]:
    whole = [books.bill(target, by=by) for by in PAIRS]
    parts = [
        books.bill(target, by=(Dimension.KIND, Dimension.TENANT), from_us=begins, to_us=ends)
        for begins, ends in windows
    ]
    return [*whole, *parts, books.bill(target, tenant=TenantName("a"))]


def same(one: Bill, other: Bill) -> None:
    assert one.rows == other.rows
    assert (one.device_nanos, one.nano_usd, one.price) == (
        other.device_nanos,
        other.nano_usd,
        other.price,
    )


def folds_exactly(path: str | Path, seed: int, hours: list[float], *, at_rest: bool) -> None:
    maker = write(path, seed, hours, at_rest=at_rest)
    rng = random.Random(seed)
    for _ in range(rng.randrange(0, 3)):
        rerate(path, rng, maker.now)
    windows = [
        (Micros(START + first * HOUR_US), Micros(START + last * HOUR_US))
        for first, last in combinations(range(0, (maker.now - START) // HOUR_US + 2, 2), 2)
    ]
    before, report = bills(path, windows), books.check(path)
    assert report.balanced, report.fault
    total = books.Folded()
    for limit in sorted(rng.sample(range(START, maker.now + 2 * HOUR_US), 3)):
        total += books.compact(path, before=Micros(limit), now=NOW)
        after = books.check(path)
        assert after.balanced, after.fault
        assert after.requests + after.folded == report.requests
        for one, other in zip(before, bills(path, windows), strict=True):
            same(one, other)
        for name in ("intervals", "sessions", "capacity_nano_usd", "lines_nano_usd", "waiting"):
            assert getattr(after, name) == getattr(report, name)
    everything = books.compact(path, before=Micros(maker.now + 2 * HOUR_US), now=NOW) + total
    # The last interval of a session that is not resolved stays; all these sessions are.
    assert everything.intervals == report.intervals
    assert everything.requests == len(maker.rows)
    assert everything.charges == len(maker.charges)
    after = books.check(path)
    assert after.balanced, after.fault
    for one, other in zip(before, bills(path, windows), strict=True):
        same(one, other)
    for method in (Method.EVEN, Method.PROPORTIONAL):
        assert books.bill(path, by=[Dimension.TENANT], shared=method).nano_usd == before[0].nano_usd
    if rng.random() < 0.5:
        # What is folded can still be re-rated, cost by cost.
        with closing(open_store(path, house="other")) as store:
            if store.price_book().versions:
                rerate_folded(path, rng)


def rerate_folded(path: str | Path, rng: random.Random) -> None:
    with closing(open_store(path, house="other")) as store:
        recorded = Micros(NOW)
        store.add_price(
            PriceVersion(
                device_kind="cpu-core",
                effective=Micros(0),
                recorded=recorded,
                basis=Rented(nano_usd_per_device_hour=rng.randrange(0, 10**8)),
            )
        )
    span = {"from_us": Micros(0), "to_us": NOW, "reason": "again", "now": Micros(NOW + 1)}
    books.rerate_costs(path, **span)
    report = books.check(path)
    assert report.balanced, report.fault
    assert books.rerate_costs(path, **span).corrections == 0


random_books = given(
    seed=st.integers(0, 2**32),
    hours=st.lists(st.floats(0.1, 3), min_size=1, max_size=3),
    at_rest=st.booleans(),
)


@settings(max_examples=12, deadline=None)
@random_books
def test_folding_keeps_every_sum_in_sqlite(seed: int, hours: list[float], at_rest: bool) -> None:
    with TemporaryDirectory() as folder:
        folds_exactly(Path(folder) / "books.sqlite", seed, hours, at_rest=at_rest)


@pytest.mark.parametrize(
    ("seed", "hours"), [(1725604709, [1.6984937892549674, 0.3056574658646499])]
)
def test_a_correction_of_a_line_that_came_to_nothing_is_taken_back(
    tmp_path: Path, seed: int, hours: list[float]
) -> None:
    """Such a line is not folded; the next re-rating left its nano-dollar where it was."""
    folds_exactly(tmp_path / "books.sqlite", seed, hours, at_rest=True)


@settings(max_examples=2, deadline=None)
@random_books
def test_folding_keeps_every_sum_in_postgresql(
    postgres_server: PostgresServer, seed: int, hours: list[float], at_rest: bool
) -> None:
    with postgres_server.fresh_database() as dsn:
        folds_exactly(dsn, seed, hours, at_rest=at_rest)


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_finds_what_waits_in_folded_hours_too(tmp_path: Path, seed: int) -> None:
    """Steps in progress and training since a checkpoint at the end of an hour that was folded
    move to `lost` all the same, in time and in money."""
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        maker = BooksMaker(store, random.Random(seed))
        maker.session(hours=5, crash=True)
        before = [crashed.suspended for crashed in store.crashed()]
        assert any(before)
        far = Micros(maker.now + 2 * HOUR_US)
        assert books.compact(path, before=far, now=NOW).intervals > 0
        after = [crashed.suspended for crashed in store.crashed()]
        assert [set(one) for one in after] == [set(one) for one in before]
        maker.recover()
        assert store.crashed() == []
    report = books.check(path)
    assert report.balanced, report.fault


def test_a_running_session_is_folded_up_to_its_last_hour(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        maker = BooksMaker(store, random.Random(1))
        maker.session(hours=5, at_rest=True)
        total = books.check(path).intervals
        folded = books.compact(path, before=Micros(maker.now + 2 * HOUR_US), now=NOW)
        assert 0 < folded.intervals < total
        assert books.check(path).balanced


def test_a_crash_after_folding_finds_no_request_that_had_ended(tmp_path: Path) -> None:
    """A request folds only with its last line: what is left of it would look like one that never
    ended, and its time would move to `lost`."""
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        maker = BooksMaker(store, random.Random(6))
        maker.session(hours=12, crash=True, at_rest=True)
        limits = range(START + HOUR_US, maker.now + 2 * HOUR_US, HOUR_US)
        assert sum(books.compact(path, before=Micros(at), now=NOW).requests for at in limits) > 5
        suspended = {
            one.account.request for crashed in store.crashed() for one in crashed.suspended
        }
        assert suspended.isdisjoint({row.request_id for row in maker.rows})
        maker.recover()
    report = books.check(path)
    assert report.balanced, report.fault


def test_dry_run_counts_what_a_run_would_fold_and_folds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    maker = write(path, 3, [2.0, 1.0], at_rest=True)
    far = Micros(maker.now + 2 * HOUR_US)
    would = books.compact(path, before=far, now=NOW, dry_run=True)
    assert books.check(path).hours == 0
    done = books.compact(path, before=far, now=NOW)
    assert (would.hours, would.intervals, would.lines) == (done.hours, done.intervals, done.lines)
    assert books.compact(path, before=far, now=NOW) == books.Folded()


def test_nothing_younger_than_a_day_is_folded(tmp_path: Path) -> None:
    """Until then a request that is sent again must be known, or it would be charged again."""
    path = tmp_path / "books.sqlite"
    write(path, 3, [1.0], at_rest=True)
    with pytest.raises(ValueError, match="24 hours"):
        books.compact(path, before=Micros(NOW - 23 * HOUR_US), now=NOW)


def test_folding_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """The process is killed again and again while it folds; nothing is lost or there twice."""
    path = tmp_path / "books.sqlite"
    maker = write(path, 5, [20.0, 10.0], at_rest=True)
    far = maker.now + 2 * HOUR_US
    before = books.bill(path, by=(Dimension.HOUR, Dimension.TENANT))
    script = (
        "import sys; from pathlib import Path; from meted.live import books;"
        f"print('begins', flush=True); books.compact(Path({str(path)!r}), before={far}, now={NOW})"
    )
    delays = random.Random(2)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delays.uniform(0.0, 0.06))
        process.kill()
        process.wait()
        process.stdout.close()
        report = books.check(path)
        assert report.balanced, report.fault
        same(before, books.bill(path, by=(Dimension.HOUR, Dimension.TENANT)))
    books.compact(path, before=Micros(far), now=NOW)
    assert books.bill(path).intervals == before.intervals
    same(before, books.bill(path, by=(Dimension.HOUR, Dimension.TENANT)))


def test_a_limit_that_cuts_a_folded_hour_is_told(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    maker = write(path, 3, [2.0], at_rest=True)
    books.compact(path, before=Micros(maker.now + 2 * HOUR_US), now=NOW)
    middle = Micros(START + HOUR_US // 2)
    assert books.bill(path, from_us=middle).cut_hours == (START // HOUR_US,)
    assert books.bill(path, from_us=Micros(START)).cut_hours == ()
    with closing(open_store(path, house="other")) as store:
        store.add_price(
            PriceVersion(
                device_kind="cpu-core",
                effective=Micros(0),
                recorded=Micros(1),
                basis=Rented(nano_usd_per_device_hour=NanoUSD(1)),
            )
        )
    with pytest.raises(StoreError, match="whole"):
        books.rerate_costs(path, from_us=middle, to_us=NOW, reason="test", now=NOW)


def test_a_retry_of_a_folded_interval_is_not_entered_again(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        written: list[Batch] = []

        class Recording:
            def write(self, batch: Batch) -> None:
                written.append(batch)
                store.write(batch)

        BooksMaker(Recording(), random.Random(4)).session(hours=3, at_rest=True)  # type: ignore[arg-type]
        store.crashed()
        far = Micros(START + 100 * HOUR_US)
        books.compact(path, before=far, now=NOW)
        before = books.bill(path)
        for batch in written:
            store.write(Batch(closed=batch.closed))
        assert books.bill(path) == before


def test_books_from_before_requests_knew_their_session_are_folded_too(tmp_path: Path) -> None:
    """Meted 0.1 wrote them; their requests fold once every interval near them has."""
    path = tmp_path / "books.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(FIRST)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO sessions VALUES (1, 's1', 0)")
        second = 1_000_000
        for number in range(8):
            at = START + number * HOUR_US // 2
            request = f"old-{number}"
            cost = 30 * (number + 1) - 30 * number
            for position, line in enumerate(
                (
                    ("request", "acme", request, 400_000_000, 20),
                    ("idle", None, None, 600_000_000, 10),
                )
            ):
                kind, tenant, of, nanos, amount = line
                db.execute(
                    "INSERT INTO lines VALUES (1, ?, ?, ?, ?, null, null, ?, '', ?, ?)",
                    (number, position, kind, tenant, of, nanos, amount),
                )
            db.execute(
                "INSERT INTO intervals VALUES (1, ?, ?, ?, 1, 108000, ?, ?)",
                (number, at, at + second, second * 1000, cost),
            )
            db.execute(
                "INSERT INTO requests"
                " VALUES (?, 'acme', 'k', 'd', ?, ?, 'done', 3, 0, 4, 1, ?, 20)",
                (request, at, at + 10, 400_000_000),
            )
    with closing(open_store(path, house="here")) as store:
        store.reclaim()
        store.crashed()
    before = books.bill(path, by=(Dimension.HOUR, Dimension.TENANT))
    assert before.price == 8 * 20
    middle = Micros(START + 2 * HOUR_US)
    first = books.compact(path, before=middle, now=NOW)
    assert (first.intervals, 0 < first.requests < 8) == (4, True)
    rest = books.compact(path, before=Micros(START + 9 * HOUR_US), now=NOW)
    assert (rest.intervals, first.requests + rest.requests) == (4, 8)
    same(before, books.bill(path, by=(Dimension.HOUR, Dimension.TENANT)))
