"""Books of the first schema, with rows in every table, open in the newest one as they were."""

import hashlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.job import Job, JobStatus, TrainingSpec
from meted.domain.line import Interval, Kind
from meted.domain.request import Outcome
from meted.domain.units import DeploymentName, DeviceNanos, JobName, KeyId, Micros, TenantName
from meted.ledger.recovery import recovered
from meted.live.store import Batch, LossRow
from meted.live.stores import open_store
from meted.live.stores.database import marks
from meted.live.stores.schema.sqlite_1 import FIRST
from meted.live.stores.sqlite import APPLICATION_ID, MIGRATIONS, SqliteDatabase
from meted.testing.store_rows import (
    JOB,
    START,
    STEP,
    TRAINING,
    UNSAVED,
    interval,
    loss_row,
    request_account,
    request_row,
)

SECRET = "mt-a-secret-of-the-old-days"
DEPLOYMENT = Deployment(
    name=DeploymentName("words"),
    checkpoint="words-1m",
    task=Task.GENERATE,
    replicas=1,
    slo=SLO(ttft_p95=Micros(1), tpot_p95=Micros(2)),
    max_batch=3,
    max_queue=4,
)
JOBS = [
    Job(
        spec=TrainingSpec(name=JobName(name), base="b", data="d", tenant=TenantName("acme")),
        status=JobStatus.RUNNING,
    )
    for name in ("z", "a")
]
CLOSED = [
    ("s1", interval(0, {TRAINING: 500_000_000, request_account(0): 300_000_000, STEP: 9})),
    ("s1", interval(1, {UNSAVED: 70, request_account(0): 1_000, request_account(7): 44, STEP: -9})),
    ("s2", interval(5, {TRAINING: 1, request_account(8): 2}, session="s2")),
]
OPEN = interval(2, {UNSAVED: 5, request_account(7): 6})
LOSSES: list[LossRow] = [loss_row(3), loss_row(1), loss_row(2)]
BY = ("kind", "tenant", "deployment", "job", "request")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Written as the first version of Meted did."""
    path = tmp_path / "books.sqlite"
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(FIRST)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")
    db.executemany("INSERT INTO sessions VALUES (?, ?, 0)", [(1, "s1"), (2, "s2")])
    for session, one in CLOSED:
        number = int(session[1:])
        lines = [
            (
                *(number, one.number, position, line.account.kind, line.account.tenant),
                *(line.account.deployment, line.account.job, line.account.request),
                *(line.account.note, line.device_nanos, line.amount),
            )
            for position, line in enumerate(one.lines)
        ]
        db.executemany(f"INSERT INTO lines VALUES ({marks(',' * 10)})", lines)
        db.execute(
            f"INSERT INTO intervals VALUES ({marks(',' * 7)})",
            (
                *(number, one.number, one.started, one.ended, one.devices),
                *(one.nano_usd_per_device_hour, one.capacity_nanos, one.amount),
            ),
        )
    old_interval = msgspec.json.decode(msgspec.json.encode(OPEN))
    del old_interval["priced_from"]
    for line in old_interval["lines"]:
        for part in ("project", "key", "model"):
            line["account"].pop(part, None)
    db.execute("INSERT INTO provisional VALUES (1, 2, ?)", (msgspec.json.encode(old_interval),))
    db.execute(
        f"INSERT INTO requests VALUES ({marks(',' * 12)})",
        (
            *("request-0", "acme", "key-9", "words", START, START + 5, "done"),
            *(3, 1, 4, None, 300_001_000, 1_666),
        ),
    )
    db.executemany(
        f"INSERT INTO losses VALUES ({marks(',' * 7)})",
        [
            (one.job, one.step, one.when, one.tokens, one.loss, None, one.step, one.step)
            for one in LOSSES
        ],
    )
    db.execute("INSERT INTO deployments VALUES ('words', ?)", (msgspec.json.encode(DEPLOYMENT),))
    for job in JOBS:
        db.execute("INSERT INTO jobs VALUES (?, ?)", (job.spec.name, msgspec.json.encode(job)))
    hashed = hashlib.sha256(SECRET.encode()).hexdigest()
    db.execute(
        "INSERT INTO keys VALUES ('key-9', 'acme', 'laptop', 1, ?, 'mt-a-se', 17, 0)", (hashed,)
    )
    db.close()
    return path


def sums(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return sorted(db.execute(query).fetchall(), key=repr)
    finally:
        db.close()


def test_old_books_bill_and_balance_as_before(path: Path) -> None:
    parts = ", ".join(BY)
    before = sums(
        path, f"SELECT {parts}, sum(device_nanos), sum(amount) FROM lines GROUP BY {parts}"
    )
    balances = "SELECT number, capacity_nanos, intervals.amount FROM intervals"
    balance = sums(path, balances)
    open_store(path, house="here").close()
    named = ", ".join("request" if part == "request" else f"nullif({part}, '')" for part in BY)
    places = ", ".join(str(place + 1) for place in range(len(BY)))
    after = sums(
        path,
        f"SELECT {named}, sum(device_nanos), sum(amount) FROM lines"
        f" JOIN accounts ON accounts.id = lines.account GROUP BY {places}",
    )
    assert after == before
    assert sums(path, balances) == balance
    assert sums(path, "SELECT session, number, priced_from FROM intervals") == [
        (1, 0, START),
        (1, 1, START),
        (2, 5, START + 5_000_000),
    ]
    assert sums(path, "PRAGMA foreign_key_check") == []
    assert sums(path, "PRAGMA integrity_check") == [("ok",)]


def test_old_requests_keep_who_asked_and_are_charged_what_they_cost(path: Path) -> None:
    open_store(path, house="here").close()
    database = SqliteDatabase(path, read_only=True)
    (row,) = database.read(
        lambda db: db.rows(
            "SELECT requests.id, kind, tenant, project, key_id, deployment, session, arrived,"
            " ended, outcome, prompt_tokens, ttft_us, device_nanos, cost, price, stopped"
            " FROM requests JOIN accounts ON accounts.id = requests.account"
        )
    )
    assert row == (
        *("request-0", Kind.REQUEST, "acme", "default", "key-9", "words", None, START),
        *(START + 5, Outcome.DONE, 3, None, 300_001_000, 1_666, 1_666, ""),
    )
    keys = database.read(
        lambda db: db.rows(
            "SELECT DISTINCT key_id, project FROM lines"
            " JOIN accounts ON accounts.id = lines.account WHERE request = 'request-0'"
        )
    )
    assert keys == [("key-9", "default")]
    database.close()


def test_the_house_that_begins_takes_over_what_had_no_house(path: Path) -> None:
    store, other = open_store(path, house="here"), open_store(path, house="there")
    assert list(store.jobs()) == []
    store.reclaim()
    other.reclaim()
    assert list(store.deployments()) == [DEPLOYMENT]
    assert list(store.jobs()) == JOBS
    assert list(store.losses(JOB)) == LOSSES
    assert [(one.job, one.device_nanos) for one in store.job_totals()] == [(JOB, 500_000_071)]
    assert (list(other.deployments()), list(other.jobs()), list(other.losses(JOB))) == ([], [], [])
    key = store.find_key(SECRET)
    assert key is not None
    assert (key.id, key.tenant, key.project, key.admin, key.name, key.created) == (
        *(KeyId("key-9"), "acme", "default", True, "laptop", 17),
    )
    for one in (store, other):
        one.close()


def test_a_session_that_crashed_before_is_recovered_after(path: Path) -> None:
    store = open_store(path, house="here")
    first, second = store.crashed()
    assert (first.interval.session, first.interval.priced_from) == ("s1", START)
    assert first.interval.lines[0].account.project is None
    suspended = {}
    for one in first.suspended:
        place = (one.account.kind, one.account.note, one.account.request)
        suspended[place] = suspended.get(place, 0) + one.device_nanos
    assert {place: nanos for place, nanos in suspended.items() if nanos} == {
        (Kind.TRAINING, UNSAVED.note, None): DeviceNanos(75),
        (Kind.REQUEST, "", "request-7"): DeviceNanos(50),
    }
    assert first.acknowledged == ()
    assert second.interval.session == "s2"
    intervals: list[Interval] = [
        recovered(one.interval, one.suspended, one.acknowledged) for one in (first, second)
    ]
    store.write(Batch(closed=tuple(intervals)))
    assert store.crashed() == []
    store.close()


def test_migrating_twice_at_once_happens_once(path: Path) -> None:
    stores = [open_store(path, house=f"house-{number}") for number in range(3)]
    assert sums(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    stores[0].write(Batch(session="s9", requests=(request_row(0, 5), request_row(9, 5))))
    assert sums(path, "SELECT count(*) FROM requests") == [(2,)]
    for store in stores:
        store.close()
