"""Books of a million events: how fast they are written, how big they are, how long a report takes.

    python benchmarks/ledger.py [--events 1000000] [--store sqlite|postgresql|both]

An event is a request that ended, with its line in an interval. They are written as a house does:
in batches of --batch requests, each batch in one durable transaction with the interval that closed.
"""

import argparse
import contextlib
import itertools
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from meted.cli.focus import write_focus
from meted.cli.report_page import page
from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Price
from meted.domain.request import Outcome
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
)
from meted.ledger.meter import Meter
from meted.ledger.shares import Method
from meted.live import books
from meted.live.books import Dimension
from meted.live.store import Batch, RequestRow
from meted.live.stores import open_database, open_store
from meted.testing.postgres import PostgresServer

START = 1_793_491_200_000_000
"""2026-11-01, so that all of it is one month."""
SECOND = 1_000_000
HOUR = 3_600 * SECOND
DEVICES = 8
PRICE = Price(nano_usd_per_device_hour=NanoUSD(30_000_000))
TRAINING = Account(
    kind=Kind.TRAINING,
    tenant=TenantName("acme"),
    project=ProjectName("research"),
    job=JobName("night-shift"),
)
SOME_PAIRS = [
    (Dimension.KIND, Dimension.TENANT),
    (Dimension.TENANT, Dimension.HOUR),
    (Dimension.KIND, Dimension.REQUEST),
    (Dimension.REQUEST, Dimension.HOUR),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What was done, and for how many seconds."""

    what: str
    seconds: float
    note: str = ""


def batches(events: int, batch: int, interval_us: int, name: str) -> Iterator[Batch]:
    """A session of so many requests, as many in each interval as in a batch."""
    rng = random.Random(1)
    meter = Meter(session=name, devices=DEVICES, price=PRICE, started=Micros(START))
    meter.open("engine", Account(kind=Kind.OVERHEAD))
    now, clock = START, 0
    for first in range(0, events, batch):
        now += interval_us
        accounts = [
            _account(rng, number, name) for number in range(first, min(first + batch, events))
        ]
        spare = interval_us * 1_000 * DEVICES * 6 // 10
        parts = {account: DeviceNanos(spare // len(accounts)) for account in accounts}
        training = DeviceNanos(interval_us * 1_000 // 2)
        clock += sum(parts.values()) + training
        meter.charge("engine", DeviceNanos(clock), {**parts, TRAINING: training})
        rows = tuple(_row(rng, meter, account, now) for account in accounts)
        for account in accounts:
            meter.settle(account)
        closed: Interval = meter.close(Micros(now))
        yield Batch(session=name, closed=(closed,), requests=rows)
    # Another one, so that all of the requests are posted for good.
    yield Batch(session=name, closed=(meter.close(Micros(now + SECOND)),))


def _account(rng: random.Random, number: int, session: str) -> Account:
    tenant = rng.choice(["acme", "initech", "umbrella", "hooli"])
    return Account(
        kind=Kind.REQUEST,
        tenant=TenantName(tenant),
        project=ProjectName(rng.choice(["chat", "search"])),
        key=KeyId(f"key-{tenant}"),
        deployment=DeploymentName(rng.choice(["chat", "code"])),
        model="smollm2-135m",
        request=RequestId(f"req-{session}-{number:024x}"[-28:]),
    )


def _row(rng: random.Random, meter: Meter, account: Account, now: int) -> RequestRow:
    cost = meter.cost(account)
    return RequestRow(
        account=account,
        arrived=Micros(now - 1_000),
        ended=Micros(now - 10),
        outcome=Outcome.DONE,
        prompt_tokens=rng.randrange(20, 2_000),
        cached_tokens=rng.randrange(0, 20),
        completion_tokens=rng.randrange(1, 500),
        ttft_us=20_000,
        device_nanos=meter.used(account),
        cost=cost,
        price=NanoUSD(cost * 11 // 10),
    )


def timed(what: str, work: Callable[[], object], found: list[Timed]) -> None:
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    note = f"{len(result.rows):,} rows" if isinstance(result, books.Bill) else ""
    found.append(Timed(what=what, seconds=seconds, note=note))
    print(f"  {what:<44} {seconds:>8.2f} s  {note}", flush=True)


def write(target: str | Path, events: int, batch: int, interval_us: int) -> list[Timed]:
    """Events one by one (a few), then grouped (all)."""
    found: list[Timed] = []
    with closing(open_store(target, house="bench")) as store:
        singles = [*batches(300, 1, SECOND, "single")]
        began = time.perf_counter()
        for one in singles:
            store.write(one)
        rate = 300 / (time.perf_counter() - began)
        found.append(Timed(what="events/s one by one", seconds=rate))
        print(f"  {'events/s, one in a transaction':<44} {rate:>8,.0f}", flush=True)
        began, spent = time.perf_counter(), 0.0
        for one in batches(events, batch, interval_us, "grouped"):
            began = time.perf_counter()
            store.write(one)
            spent += time.perf_counter() - began
        rate = events / spent
        found.append(Timed(what=f"events/s in groups of {batch}", seconds=rate))
        print(f"  {f'events/s, {batch} in a transaction':<44} {rate:>8,.0f}", flush=True)
        store.crashed()
    return found


def read(target: str | Path, folder: Path, end: int, *, all_pairs: bool) -> list[Timed]:
    """Every report, once, with the database's pages as warm as writing left them."""
    found: list[Timed] = []
    month = {"from_us": Micros(START), "to_us": Micros(START + 30 * 24 * HOUR)}
    pairs = [*itertools.combinations(Dimension, 2)] if all_pairs else SOME_PAIRS
    timed("bill by kind", lambda: books.bill(target), found)
    for by in pairs:
        name = " and ".join(by)
        timed(f"bill by {name}", lambda by=by: books.bill(target, by=by), found)
    by_tenant = [Dimension.TENANT, Dimension.KIND]
    timed(
        "bill by tenant and kind, shared proportionally",
        lambda: books.bill(target, by=by_tenant, shared=Method.PROPORTIONAL),
        found,
    )
    timed(
        "bill of one tenant, one hour",
        lambda: books.bill(
            target,
            tenant=TenantName("acme"),
            from_us=Micros(START + HOUR),
            to_us=Micros(START + 2 * HOUR),
        ),
        found,
    )
    timed("check", lambda: _checked(target), found)
    timed("statement, HTML", lambda: page(books.statement(target, **month), made_us=end), found)
    for ending in ("csv", "parquet"):
        file = folder / f"focus.{ending}"
        timed(f"FOCUS, {ending}", lambda file=file: write_focus(target, file, **month), found)
    return found


def _checked(target: str | Path) -> books.CheckReport:
    report = books.check(target)
    assert report.balanced, report.fault
    return report


def fold(target: str | Path, end: int) -> list[Timed]:
    found: list[Timed] = []
    before = books.bill(target, by=[Dimension.HOUR, Dimension.TENANT])
    now = Micros(end + 100 * 24 * HOUR)
    folded = books.Folded()

    def work() -> None:
        nonlocal folded
        folded = books.compact(target, before=Micros(end + 2 * HOUR), now=now)

    timed("fold all of it into hours", work, found)
    print(f"  {folded}")
    assert books.bill(target, by=[Dimension.HOUR, Dimension.TENANT]).rows == before.rows
    timed("bill by tenant and kind, folded", lambda: books.bill(target), found)
    timed("check, folded", lambda: _checked(target), found)
    return found


def size_mib(target: str | Path) -> float:
    if isinstance(target, Path):
        files = [target, *target.parent.glob(f"{target.name}-*")]
        return sum(file.stat().st_size for file in files if file.exists()) / 2**20
    with closing(open_database(target, read_only=True)) as database:
        rows = database.read(lambda db: db.rows("SELECT pg_database_size(current_database())"))
    return rows[0][0] / 2**20


def vacuum(path: Path) -> None:
    import sqlite3

    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def sqlite_file(folder: Path) -> Generator[Path]:
    yield folder / "books.sqlite"


@contextlib.contextmanager
def postgres_database() -> Generator[str]:
    with PostgresServer() as server, server.fresh_database() as dsn:
        yield dsn


def run(store: str, options: argparse.Namespace, folder: Path) -> None:
    print(
        f"{store}: {options.events:,} events, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    opened = sqlite_file(folder) if store == "sqlite" else postgres_database()
    interval_us = options.interval_ms * 1_000
    with opened as target:
        write(target, options.events, options.batch, interval_us)
        print(f"  {'size, MiB':<44} {size_mib(target):>8.0f}")
        end = START + (options.events // options.batch + 1) * interval_us
        read(target, folder, end, all_pairs=not options.some_pairs)
        fold(target, end)
        if isinstance(target, Path):
            vacuum(target)
            print(f"  {'size once folded and vacuumed, MiB':<44} {size_mib(target):>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--interval-ms", type=int, default=250_000)
    parser.add_argument("--some-pairs", action="store_true", help="Bill by four pairs, not by all.")
    parser.add_argument("--store", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--folder", type=Path, help="Where to keep files; default: a new one.")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="meted-ledger-"))
    folder.mkdir(exist_ok=True)
    try:
        for store in ["sqlite", "postgresql"] if options.store == "both" else [options.store]:
            run(store, options, folder)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
