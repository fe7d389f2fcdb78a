"""Conformance of a store: what every implementation of `Store` must keep, on any database."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.job import Job, JobProgress, JobStatus, TrainingSpec
from meted.domain.units import JobName, Micros, NanoUSD
from meted.ledger.recovery import lost, recovered
from meted.live.store import Batch, Store, StoreError
from meted.testing.check_documents import check_documents
from meted.testing.check_keys import check_audit, check_keys
from meted.testing.check_leases import check_leases
from meted.testing.check_terms import check_terms
from meted.testing.check_versions import check_versions
from meted.testing.store_rows import (
    JOB,
    MICROS,
    SESSION,
    START,
    STEP,
    TENANT,
    TRAINING,
    UNSAVED,
    WORDS,
    MakeStore,
    charge_row,
    interval,
    loss_row,
    request_account,
    request_row,
)

__all__ = [
    "JOB",
    "MICROS",
    "START",
    "STEP",
    "TENANT",
    "TRAINING",
    "UNSAVED",
    "MakeStore",
    "check_batches_are_whole",
    "check_store",
    "interval",
    "loss_row",
    "request_account",
    "request_row",
    "write_forever",
]


def check_store(make_store: MakeStore, *, stored_bytes: Callable[[], bytes] | None = None) -> None:
    """Run every check below on one database, in an order that leaves each its own session.

    stored_bytes: all that the database has on disk, to look for secrets in.
    """
    check_exactly_once(make_store)
    check_open_interval_is_replaced(make_store)
    check_closed_is_closed(make_store)
    check_crash_tells_what_is_unresolved(make_store)
    check_crash_after_close(make_store)
    check_crash_tells_what_clients_were_told(make_store)
    check_houses_recover_their_own(make_store)
    check_memory(make_store)
    check_keys(make_store, stored_bytes)
    check_audit(make_store)
    check_terms(make_store)
    check_leases(make_store)
    check_documents(make_store)
    check_versions(make_store)


def check_exactly_once(make_store: MakeStore) -> None:
    """A batch written twice counts once, also by a store that was opened in between."""
    batch = Batch(
        closed=(interval(0, {TRAINING: 600, request_account(0): 300}),),
        open=interval(1, {TRAINING: 5}),
        requests=(request_row(0, 300),),
        charges=(charge_row(0, 70), charge_row(1, 7)),
        losses=(loss_row(1), loss_row(1, "before")),
    )
    for _ in range(2):
        with closing(make_store()) as store:
            store.write(batch)
            store.write(replace(batch, losses=(replace(loss_row(1), loss=9.0),)))
            assert _total(store) == 600
            assert [one.price for one in store.job_totals()] == [77]
            assert list(store.losses(JOB)) == [loss_row(1), loss_row(1, "before")]
            (crashed,) = store.crashed()
            assert crashed.interval == interval(1, {TRAINING: 5})
            assert crashed.suspended == ()
            assert crashed.acknowledged == ()


def check_open_interval_is_replaced(make_store: MakeStore) -> None:
    """Each open interval takes the last one's place; closing it removes it; a late one is old."""
    with closing(make_store()) as store:
        for nanos in (7, 9):
            store.write(Batch(open=interval(1, {TRAINING: nanos})))
        assert [one.interval for one in store.crashed()] == [interval(1, {TRAINING: 9})]
        store.write(Batch(closed=(interval(1, {TRAINING: 11}),)))
        assert store.crashed() == []
        store.write(Batch(open=interval(1, {TRAINING: 10})))
        assert store.crashed() == []
        assert _total(store) == 611
    with closing(make_store()) as store:
        assert store.crashed() == []
        assert _total(store) == 611


def check_closed_is_closed(make_store: MakeStore) -> None:
    """Closing an interval again with another content is refused, with all of its batch."""
    with closing(make_store()) as store:
        other = replace(interval(1, {TRAINING: 1}), amount=NanoUSD(1))
        _refuses(
            lambda: store.write(
                Batch(closed=(interval(2, {TRAINING: 100}), other), losses=(loss_row(2),))
            )
        )
        assert _total(store) == 611
        assert len(store.losses(JOB)) == 2
        # What failed has left nothing behind, neither in the database nor in memory.
        fresh = replace(TRAINING, note="a note that only the refused batch had")
        _refuses(lambda: store.write(Batch(closed=(interval(2, {fresh: 1}), other))))
        store.write(Batch(closed=(interval(2, {fresh: 2}),)))
        assert _total(store) == 613


def check_crash_tells_what_is_unresolved(make_store: MakeStore) -> None:
    """Steps in progress, unsaved training and requests without an end are told until resolved."""
    used = {UNSAVED: 40, STEP: 30, request_account(1): 20, request_account(2): 10}
    opened = interval(1, {UNSAVED: 2, STEP: -30, request_account(1): 5}, session="s2")
    with closing(make_store()) as store:
        store.write(
            Batch(
                closed=(interval(0, used, session="s2"),),
                open=opened,
                requests=(request_row(2, 10),),
            )
        )
    with closing(make_store()) as store:
        (crashed,) = store.crashed()
        assert crashed.interval == opened
        found = {one.account: one.device_nanos for one in crashed.suspended if one.device_nanos}
        assert found == {UNSAVED: 42, request_account(1): 25}
        store.write(Batch(closed=(recovered(crashed.interval, crashed.suspended),)))
    with closing(make_store()) as store:
        assert store.crashed() == []
        assert _total(store) == 655


def check_crash_after_close(make_store: MakeStore) -> None:
    """What stands on a note after the last close is told with an interval without time."""
    with closing(make_store()) as store:
        last = interval(0, {UNSAVED: 40, lost(UNSAVED): 3}, session="s3")
        store.write(Batch(closed=(last,)))
        (crashed,) = store.crashed()
        empty = crashed.interval
        assert (empty.number, empty.started, empty.ended) == (1, last.ended, last.ended)
        assert (empty.capacity_nanos, empty.amount, empty.lines) == (0, 0, ())
        assert empty.priced_from == last.priced_from
        assert [(one.account, one.device_nanos) for one in crashed.suspended] == [(UNSAVED, 40)]
        store.write(Batch(closed=(recovered(empty, crashed.suspended),)))
        assert store.crashed() == []


def check_crash_tells_what_clients_were_told(make_store: MakeStore) -> None:
    """A request that was told more than its intervals hold is told until they hold it."""
    session = "s4"
    used = {request_account(40): 500, request_account(41): 20, request_account(42): 9}
    with closing(make_store()) as store:
        store.write(Batch(closed=(interval(40, used, session=session),)))
        store.write(
            Batch(
                session=session,
                requests=(request_row(40, 500), request_row(41, 25_000_000)),
            )
        )
        store.write(
            Batch(
                open=interval(41, {request_account(41): 1, request_account(42): 3}, session=session)
            )
        )
        store.write(Batch(session=session, requests=(request_row(42, 12),)))
        (crashed,) = store.crashed()
        (told,) = crashed.acknowledged
        row = request_row(41, 25_000_000)
        assert (told.account, told.ended) == (row.account, row.ended)
        assert (told.device_nanos, told.cost) == (row.device_nanos, row.cost)
        assert (told.posted_nanos, told.posted_cost) == (21, 0)
        assert crashed.suspended == ()
        closed = recovered(crashed.interval, crashed.suspended, crashed.acknowledged)
        store.write(Batch(closed=(closed,)))
        assert store.crashed() == []


def check_houses_recover_their_own(make_store: MakeStore) -> None:
    """A house sees its own sessions and those of houses that are gone, never a living one's."""
    for_ever = Micros(2**62)
    with (
        closing(make_store("there")) as there,
        closing(make_store("gone")) as gone,
        closing(make_store()) as here,
    ):
        there.lease((), now=Micros(START), until=for_ever)
        gone.lease((), now=Micros(START), until=Micros(START + 1))
        for store, session in ((there, "s5"), (gone, "s6"), (here, "s7")):
            store.write(Batch(open=interval(0, {TRAINING: 5}, session=session)))
        assert [one.interval.session for one in here.crashed()] == ["s6", "s7"]
        assert [one.interval.session for one in there.crashed()] == ["s5", "s6"]
        for store, session in ((there, "s5"), (here, "s6"), (here, "s7")):
            store.write(Batch(closed=(interval(0, {TRAINING: 5}, session=session),)))
        assert [*here.crashed(), *there.crashed(), *gone.crashed()] == []
        assert [_total(store) for store in (there, gone)] == [5, 5]
        there.lease((), now=Micros(START), until=Micros(START))


def check_memory(make_store: MakeStore) -> None:
    """Deployments and jobs come back as they were saved last, jobs oldest first, each house's."""
    deployment = Deployment(
        name=WORDS,
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
    with closing(make_store()) as store, closing(make_store("there")) as other:
        store.save_deployment(replace(deployment, replicas=7))
        store.save_deployment(deployment)
        other.save_deployment(replace(deployment, replicas=9))
        for job in (*jobs, moved):
            store.save_job(job)
        other.write(Batch(losses=(loss_row(1),)))
    with closing(make_store()) as store, closing(make_store("there")) as other:
        assert list(store.deployments()) == [deployment]
        assert list(store.jobs()) == [moved, jobs[1]]
        store.remove_deployment(deployment.name)
        assert list(store.deployments()) == []
        assert list(other.deployments()) == [replace(deployment, replicas=9)]
        assert list(other.jobs()) == []
        assert list(other.losses(JOB)) == [loss_row(1)]


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
    with closing(make_store()) as store:
        count = len(store.losses(JOB))
        assert count > acknowledged, f"batch {acknowledged} was written, only {count} are there"
        assert [row.step for row in store.losses(JOB)] == list(range(count))
        assert _total(store) == sum(number + 1 for number in range(count))
        (crashed,) = store.crashed()
        assert crashed.interval == _whole(count - 1).open
        assert [one.account for one in crashed.suspended] == [request_account(count)]
        assert crashed.acknowledged == ()


def _whole(number: int) -> Batch:
    return Batch(
        session=SESSION,
        closed=(interval(number, {TRAINING: number + 1, request_account(number): 70}),),
        open=interval(number + 1, {request_account(number + 1): 70}),
        requests=(request_row(number, 70),),
        losses=(loss_row(number),),
    )


def _total(store: Store) -> int:
    return sum(one.device_nanos for one in store.job_totals() if one.job == JOB)


def _refuses(call: Callable[[], object]) -> None:
    try:
        call()
    except StoreError:
        return
    raise AssertionError("a batch that contradicts the books was taken")
