"""Conformance of a store: what every implementation of `Store` must keep, on any database."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.job import Job, JobProgress, JobStatus, TrainingSpec
from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.request import Outcome
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    RequestId,
    TenantName,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED
from meted.ledger.recovery import lost, recovered
from meted.live.store import Batch, LossRow, RequestRow, Store, StoreError

MakeStore = Callable[[], Store]
"""Opens the same database each time; the first call finds it empty."""

JOB = JobName("night-shift")
TENANT = TenantName("acme")
TRAINING = Account(kind=Kind.TRAINING, tenant=TENANT, job=JOB)
UNSAVED = replace(TRAINING, note=UNCHECKPOINTED)
STEP = Account(kind=Kind.REQUEST, deployment=DeploymentName("words"), note=IN_PROGRESS)
MICROS = 1_000_000
START = 1_700_000_000_000_000
PRICE = NanoUSD(20_000_000)


def request_account(number: int) -> Account:
    """The account of the numbered request."""
    return Account(
        kind=Kind.REQUEST,
        tenant=TENANT,
        deployment=DeploymentName("words"),
        request=RequestId(f"request-{number}"),
    )


def interval(number: int, used: dict[Account, int], *, session: str = "s1") -> Interval:
    """The numbered second of one device: these accounts' nanoseconds, the rest idle."""
    capacity = MICROS * 1000
    amount = _amount((number + 1) * capacity) - _amount(number * capacity)
    lines = [
        Line(account=account, device_nanos=DeviceNanos(nanos), amount=NanoUSD(_amount(nanos)))
        for account, nanos in used.items()
    ]
    idle = Line(
        account=Account(kind=Kind.IDLE),
        device_nanos=DeviceNanos(capacity - sum(used.values())),
        amount=NanoUSD(amount - sum(line.amount for line in lines)),
    )
    return Interval(
        session=session,
        number=number,
        started=Micros(START + number * MICROS),
        ended=Micros(START + (number + 1) * MICROS),
        devices=1,
        nano_usd_per_device_hour=PRICE,
        capacity_nanos=DeviceNanos(capacity),
        amount=NanoUSD(amount),
        lines=(*lines, idle),
    )


def request_row(number: int, nanos: int, *, outcome: Outcome = Outcome.DONE) -> RequestRow:
    """The end of the numbered request within the numbered second."""
    return RequestRow(
        request_id=RequestId(f"request-{number}"),
        tenant=TENANT,
        key_id="key-1",
        deployment=DeploymentName("words"),
        arrived=Micros(START + number * MICROS),
        ended=Micros(START + number * MICROS + 1000),
        outcome=outcome,
        prompt_tokens=3,
        cached_tokens=1,
        completion_tokens=4,
        ttft_us=500,
        device_nanos=nanos,
        cost=NanoUSD(_amount(nanos)),
    )


def loss_row(step: int, when: str = "train") -> LossRow:
    """One point of a loss curve."""
    return LossRow(
        job=JOB,
        step=step,
        tokens=step * 10,
        loss=1 / (1 + step),
        held_out=None,
        when=when,
        device_nanos=step,
        cost=NanoUSD(step),
    )


def check_store(make_store: MakeStore, *, stored_bytes: Callable[[], bytes] | None = None) -> None:
    """Run every check below on one database, in an order that leaves each its own session.

    stored_bytes: all that the database has on disk, to look for secrets in.
    """
    check_exactly_once(make_store)
    check_open_interval_is_replaced(make_store)
    check_closed_is_closed(make_store)
    check_crash_tells_what_is_unresolved(make_store)
    check_memory(make_store)
    check_keys(make_store, stored_bytes)


def check_exactly_once(make_store: MakeStore) -> None:
    """A batch written twice counts once, also by a store that was opened in between."""
    batch = Batch(
        closed=(interval(0, {TRAINING: 600, request_account(0): 300}),),
        open=interval(1, {TRAINING: 5}),
        requests=(request_row(0, 300),),
        losses=(loss_row(1), loss_row(1, "before")),
    )
    for _ in range(2):
        with _opened(make_store) as store:
            store.write(batch)
            store.write(replace(batch, losses=(replace(loss_row(1), loss=9.0),)))
            assert _total(store) == 600
            assert list(store.losses(JOB)) == [loss_row(1), loss_row(1, "before")]
            (crashed,) = store.crashed()
            assert crashed.interval == interval(1, {TRAINING: 5})
            assert crashed.suspended == ()


def check_open_interval_is_replaced(make_store: MakeStore) -> None:
    """Each open interval takes the last one's place; closing it removes it; a late one is old."""
    with _opened(make_store) as store:
        for nanos in (7, 9):
            store.write(Batch(open=interval(1, {TRAINING: nanos})))
        assert [one.interval for one in store.crashed()] == [interval(1, {TRAINING: 9})]
        store.write(Batch(closed=(interval(1, {TRAINING: 11}),)))
        assert store.crashed() == []
        store.write(Batch(open=interval(1, {TRAINING: 10})))
        assert store.crashed() == []
        assert _total(store) == 611
    with _opened(make_store) as store:
        assert store.crashed() == []
        assert _total(store) == 611


def check_closed_is_closed(make_store: MakeStore) -> None:
    """Closing an interval again with another content is refused, with all of its batch."""
    with _opened(make_store) as store:
        other = replace(interval(1, {TRAINING: 1}), amount=NanoUSD(1))
        try:
            store.write(Batch(closed=(interval(2, {TRAINING: 100}), other), losses=(loss_row(2),)))
        except StoreError:
            pass
        else:
            raise AssertionError("a closed interval was closed again with another amount")
        assert _total(store) == 611
        assert len(store.losses(JOB)) == 2


def check_crash_tells_what_is_unresolved(make_store: MakeStore) -> None:
    """Steps in progress, unsaved training and requests without an end are told until resolved."""
    used = {UNSAVED: 40, STEP: 30, request_account(1): 20, request_account(2): 10}
    opened = interval(1, {UNSAVED: 2, STEP: -30, request_account(1): 5}, session="s2")
    with _opened(make_store) as store:
        store.write(
            Batch(
                closed=(interval(0, used, session="s2"),),
                open=opened,
                requests=(request_row(2, 10),),
            )
        )
    with _opened(make_store) as store:
        (crashed,) = store.crashed()
        assert crashed.interval == opened
        found = {one.account: one.device_nanos for one in crashed.suspended if one.device_nanos}
        assert found == {UNSAVED: 42, request_account(1): 25}
        store.write(Batch(closed=(recovered(crashed.interval, crashed.suspended),)))
    with _opened(make_store) as store:
        assert store.crashed() == []
        assert _total(store) == 653
    _check_crash_after_close(make_store)


def _check_crash_after_close(make_store: MakeStore) -> None:
    with _opened(make_store) as store:
        last = interval(0, {UNSAVED: 40, lost(UNSAVED): 3}, session="s3")
        store.write(Batch(closed=(last,)))
        (crashed,) = store.crashed()
        empty = crashed.interval
        assert (empty.number, empty.started, empty.ended) == (1, last.ended, last.ended)
        assert (empty.capacity_nanos, empty.amount, empty.lines) == (0, 0, ())
        assert [(one.account, one.device_nanos) for one in crashed.suspended] == [(UNSAVED, 40)]
        store.write(Batch(closed=(recovered(empty, crashed.suspended),)))
        assert store.crashed() == []


def check_memory(make_store: MakeStore) -> None:
    """Deployments and jobs come back as they were saved last, jobs oldest first."""
    deployment = Deployment(
        name=DeploymentName("words"),
        checkpoint="words-1m",
        task=Task.GENERATE,
        replicas=1,
        slo=SLO(ttft_p95=Micros(1), tpot_p95=Micros(2)),
        max_batch=3,
        max_queue=4,
    )
    specs = [
        TrainingSpec(name=JobName(name), base="b", data="d", tenant=TENANT, steps=3)
        for name in ("z", "a")
    ]
    jobs = [Job(spec=spec, status=JobStatus.QUEUED) for spec in specs]
    moved = replace(
        jobs[0],
        status=JobStatus.FAILED,
        progress=JobProgress(step=2, loss=0.1 + 0.2),
        error="out of memory",
    )
    with _opened(make_store) as store:
        store.save_deployment(replace(deployment, replicas=7))
        store.save_deployment(deployment)
        for job in (*jobs, moved):
            store.save_job(job)
    with _opened(make_store) as store:
        assert list(store.deployments()) == [deployment]
        assert list(store.jobs()) == [moved, jobs[1]]
        store.remove_deployment(deployment.name)
        assert list(store.deployments()) == []


def check_keys(make_store: MakeStore, stored_bytes: Callable[[], bytes] | None) -> None:
    """A secret finds its key and is nowhere stored; a revoked key says so to every store."""
    with _opened(make_store) as store, _opened(make_store) as other:
        before = other.version()
        key, secret = store.create_key(tenant=TENANT, name="laptop", admin=False)
        admin, admin_secret = store.create_key(tenant=TENANT, name="", admin=True)
        assert other.version() != before
        assert other.find_key(secret) == key
        assert other.find_key(admin_secret) == admin
        assert secret.startswith(key.prefix)
        for wrong in ("", secret[:-1], secret + "x", key.id, key.prefix, "mt-é\udcff"):
            assert other.find_key(wrong) is None
        store.revoke_key(key.id)
        assert other.find_key(secret) == replace(key, revoked=True)
        assert list(other.keys()) == [replace(key, revoked=True), admin]
        try:
            store.revoke_key("key-unknown")
        except StoreError as error:
            assert key.id in str(error)
        else:
            raise AssertionError("a key that does not exist was revoked")
    if stored_bytes is not None:
        content = stored_bytes()
        assert key.prefix.encode() in content
        for one in (secret, admin_secret):
            assert one[len(key.prefix) :].encode() not in content


def write_forever(store: Store, acknowledge: Callable[[int], None]) -> None:
    """Write whole batches, each with all its parts, until killed.

    Call it in a process of its own, kill that, and let `check_batches_are_whole` look.
    """
    number = 0
    while True:
        store.write(_whole(number))
        acknowledge(number)
        number += 1


def check_batches_are_whole(make_store: MakeStore, *, acknowledged: int) -> None:
    """After a kill, each batch of `write_forever` is there with all its parts or with none.

    acknowledged: the number of the last batch that the writer said was written.
    """
    with _opened(make_store) as store:
        count = len(store.losses(JOB))
        assert count > acknowledged, f"batch {acknowledged} was written, only {count} are there"
        assert [row.step for row in store.losses(JOB)] == list(range(count))
        assert _total(store) == sum(number + 1 for number in range(count))
        (crashed,) = store.crashed()
        assert crashed.interval == _whole(count - 1).open
        assert [one.account for one in crashed.suspended] == [request_account(count)]


def _whole(number: int) -> Batch:
    return Batch(
        closed=(interval(number, {TRAINING: number + 1, request_account(number): 70}),),
        open=interval(number + 1, {request_account(number + 1): 70}),
        requests=(request_row(number, 70),),
        losses=(loss_row(number),),
    )


def _amount(nanos: int) -> int:
    return nanos * PRICE // 3_600_000_000_000


def _total(store: Store) -> int:
    return sum(one.device_nanos for one in store.job_totals() if one.job == JOB)


def _opened(make_store: MakeStore) -> "closing[Store]":
    return closing(make_store())
