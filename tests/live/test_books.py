"""The bill's sums and the check of the books, on books that a real meter and store wrote."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Price
from meted.domain.units import DeploymentName, DeviceNanos, JobName, Micros, NanoUSD, TenantName
from meted.ledger.meter import Meter
from meted.ledger.recovery import recovered
from meted.live.books import Dimension, bill, check
from meted.live.store import Batch, StoreError
from meted.live.stores import open_database, open_store
from meted.testing.store_rows import (
    SESSION,
    START,
    TRAINING,
    interval,
    request_account,
    request_row,
)

HOUR = 3_600_000_000
IDLE = "account IN (SELECT id FROM accounts WHERE kind = 'idle')"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite"


def write(path: Path, *batches: Batch) -> None:
    store = open_store(path, house="here")
    for batch in batches:
        store.write(batch)
    store.close()


def edit(path: Path, *statements: str) -> None:
    """What no part of Meted does: change closed books behind the store's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    for (name,) in triggers.fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def second(number: int) -> Batch:
    used = {TRAINING: 500_000_000 + number, request_account(number): 70_000_001}
    return Batch(closed=(interval(number, used),), requests=(request_row(number, 70_000_001),))


def test_books_written_by_the_store_balance(path: Path) -> None:
    write(path, *(second(number) for number in range(5)))
    report = check(path)
    assert report.balanced, report.fault
    assert (report.sessions, report.intervals, report.requests, report.waiting) == (1, 5, 5, 0)
    assert report.lines_nanos == report.capacity_nanos == 5 * 10**9
    assert report.lines_nano_usd == report.capacity_nano_usd == 27_777


@pytest.mark.parametrize(
    ("statement", "numbers"),
    [
        (
            f"UPDATE lines SET device_nanos = device_nanos + 1 WHERE number = 2 AND {IDLE}",
            ("interval 2", "1000000001", "1000000000"),
        ),
        (
            f"UPDATE lines SET amount = amount - 1 WHERE number = 1 AND {IDLE}",
            ("interval 1", "5555", "amount"),
        ),
        ("DELETE FROM lines WHERE number = 3", ("interval 3", "0", "1000000000")),
        ("UPDATE intervals SET number = 9 WHERE number = 4", ("interval 9", "numbered", "4")),
        ("UPDATE intervals SET started = started + 1 WHERE number = 2", ("interval 2", "ended")),
        ("UPDATE intervals SET devices = 2 WHERE number = 2", ("interval 2", "devices", "2", "1")),
        (
            "UPDATE intervals SET capacity_nanos = 5 WHERE number = 0",
            ("interval 0", "capacity of (ns) 5", "1000000000"),
        ),
        (
            "UPDATE intervals SET nano_usd_per_device_hour = 1 WHERE number = 4",
            ("interval 4", "first at this price"),
        ),
        ("UPDATE requests SET cost = cost + 1 WHERE id = 'request-1'", ("request-1", "nano-USD")),
    ],
)
def test_check_names_the_first_that_does_not_hold_with_both_numbers(
    path: Path, statement: str, numbers: tuple[str, ...]
) -> None:
    write(path, *(second(number) for number in range(5)))
    edit(path, statement)
    report = check(path)
    assert not report.balanced
    for part in numbers:
        assert part in (report.fault or "")


def test_amounts_that_balance_alone_must_also_telescope(path: Path) -> None:
    write(path, *(second(number) for number in range(3)))
    edit(
        path,
        f"UPDATE lines SET amount = amount + 1 WHERE number = 1 AND {IDLE}",
        "UPDATE intervals SET amount = amount + 1 WHERE number = 1",
    )
    fault = check(path).fault or ""
    assert "interval 1" in fault
    assert "5557, but capacity x price is 5556" in fault


def test_request_posted_one_interval_late_is_no_fault_until_then(path: Path) -> None:
    """The last nanoseconds of a full house are held back for one interval."""
    write(path, Batch(closed=(interval(0, {request_account(0): 69}),)))
    write(path, Batch(session=SESSION, requests=(request_row(0, 70),)))
    report = check(path)
    assert report.balanced
    assert report.waiting == 1
    write(path, Batch(closed=(interval(1, {}),)))
    assert "request-0 has lines of 69 ns" in (check(path).fault or "")


def test_books_of_a_crashed_session_balance_once_recovered(path: Path) -> None:
    write(path, second(0), Batch(open=interval(1, {TRAINING: 5, request_account(1): 9})))
    assert check(path).intervals == 1
    store = open_store(path, house="here")
    store.write(
        Batch(closed=tuple(recovered(one.interval, one.suspended) for one in store.crashed()))
    )
    store.close()
    report = check(path)
    assert report.balanced, report.fault
    assert report.intervals == 2
    rows = {row.key: row.device_nanos for row in bill(path, by=[Dimension.KIND]).rows}
    assert rows[("lost",)] == 9
    assert rows[("request",)] == 70_000_001


def test_no_books_is_a_store_error_that_says_what_begins_them(path: Path) -> None:
    with pytest.raises(StoreError, match="meted up"):
        bill(path)
    assert not path.exists()


def test_reading_beside_a_writer_sees_only_what_is_closed(path: Path) -> None:
    store = open_store(path, house="here")
    store.write(second(0))
    store.write(Batch(open=interval(1, {TRAINING: 5})))
    assert bill(path).intervals == 1
    store.write(second(1))
    assert bill(path).intervals == 2
    store.close()


def test_readers_that_come_and_go_never_cut_off_a_house_with_two_connections(path: Path) -> None:
    """Closing any descriptor of the file drops a process's locks on it; nothing may do that."""
    store, key_store = open_store(path, house="here"), open_store(path, house="here")
    reader = f"import pathlib, meted.live.books as b; b.bill(pathlib.Path({str(path)!r}))"
    for number in range(3):
        subprocess.run([sys.executable, "-c", reader], check=True)
        store.write(second(number))
        assert bill(path).intervals == number + 1
        assert path.with_name("books.sqlite-wal").exists()
    key_store.close()
    store.close()


def test_intervals_count_where_they_start(path: Path) -> None:
    write(path, *(second(number) for number in range(4)))
    part = bill(path, from_us=Micros(START + 1_000_000), to_us=Micros(START + 3_000_000))
    assert part.intervals == 2
    assert part.device_nanos == 2 * 10**9
    assert (part.started, part.ended) == (START + 1_000_000, START + 3_000_000)


def test_hours_come_in_order_and_in_utc(path: Path) -> None:
    meter = Meter(
        session="s",
        devices=1,
        price=Price(nano_usd_per_device_hour=NanoUSD(3_600)),
        started=Micros(100 * HOUR),
    )
    closed = tuple(meter.close(Micros((100 + hour) * HOUR)) for hour in (1, 2, 3))
    write(path, Batch(closed=closed))
    result = bill(path, by=[Dimension.HOUR])
    assert [row.key[0] for row in result.rows] == [
        "1970-01-05T04:00Z",
        "1970-01-05T05:00Z",
        "1970-01-05T06:00Z",
    ]
    assert [row.nano_usd for row in result.rows] == [3600, 3600, 3600]


def test_bill_by_nothing_or_twice_the_same_is_refused(path: Path) -> None:
    write(path, second(0))
    for by in ((), (Dimension.KIND, Dimension.KIND)):
        with pytest.raises(ValueError, match="different dimensions"):
            bill(path, by=by)


def test_sums_beyond_64_bits_are_exact(path: Path) -> None:
    write(path, *(second(number) for number in range(3)))
    huge = 2**62 + 1
    edit(path, f"UPDATE lines SET device_nanos = {huge}, amount = {-huge} WHERE {IDLE}")
    (idle,) = [row for row in bill(path).rows if row.key == ("idle",)]
    assert idle.device_nanos == 3 * huge
    assert idle.nano_usd == -3 * huge


accounts = st.builds(
    Account,
    kind=st.sampled_from([kind for kind in Kind if kind is not Kind.IDLE]),
    tenant=st.sampled_from([None, TenantName("a"), TenantName("b")]),
    deployment=st.sampled_from([None, DeploymentName("d")]),
    job=st.sampled_from([None, JobName("j"), JobName("k")]),
)
charges = st.dictionaries(accounts, st.integers(min_value=0, max_value=10**9), max_size=4)


@settings(max_examples=15, deadline=None)
@given(
    price=st.integers(min_value=0, max_value=10**12),
    seconds=st.lists(charges, min_size=1, max_size=4),
)
def test_every_grouping_sums_to_the_same_total(
    price: int, seconds: Sequence[dict[Account, int]]
) -> None:
    meter = Meter(
        session="s",
        devices=4,
        price=Price(nano_usd_per_device_hour=NanoUSD(price)),
        started=Micros(START),
    )
    meter.open("w", Account(kind=Kind.OVERHEAD))
    until, closed = 0, list[Interval]()
    for number, parts in enumerate(seconds):
        until += sum(parts.values())
        nanos = {account: DeviceNanos(used) for account, used in parts.items()}
        meter.charge("w", DeviceNanos(until), nanos)
        closed.append(meter.close(Micros(START + (number + 1) * 1_000_000)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "books.sqlite"
        write(path, Batch(closed=tuple(closed)))
        report = check(path)
        assert report.balanced, report.fault
        one = [(dimension,) for dimension in Dimension]
        with closing(open_database(path, read_only=True)) as database:
            results = [bill(database, by=by) for by in (*one, *combinations(Dimension, 2))]
        for result in results:
            assert result.device_nanos == report.capacity_nanos
            assert result.nano_usd == report.capacity_nano_usd
            assert sum(row.nano_usd for row in result.rows) == result.nano_usd
            assert len({row.key for row in result.rows}) == len(result.rows)
