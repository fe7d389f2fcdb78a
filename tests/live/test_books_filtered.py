"""A tenant's bill is the tenant's part of the house's bill: always, to the nano-dollar."""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parted_books import HOUR_US, START, TENANTS, PartedBooks, Parts, Sums

from meted.domain.job import Job, JobStatus
from meted.domain.units import Micros, NanoUSD, ProjectName, TenantName
from meted.ledger.meter import UNCHECKPOINTED
from meted.ledger.price_book import PriceVersion, Rented
from meted.ledger.rates import ByCost, RateVersion
from meted.ledger.recovery import lost
from meted.ledger.shares import Method
from meted.live import books
from meted.live.books import Bill, Dimension
from meted.live.books.focus import focus_records
from meted.live.store import Batch
from meted.live.stores import open_database, open_store
from meted.live.stores.database import Database
from meted.testing import store_rows
from meted.testing.builders import make_spec
from meted.testing.postgres import PostgresServer
from meted.testing.store_rows import (
    JOB,
    SESSION,
    TENANT,
    TRAINING,
    UNSAVED,
    charge_row,
    cost_of,
    interval,
    loss_row,
)

NOW = Micros(START + 1_000 * HOUR_US)
ALL = (Dimension.KIND, Dimension.PROJECT, Dimension.KEY, Dimension.DEPLOYMENT, Dimension.JOB)
BREAKDOWNS = (
    (Dimension.KIND,),
    (*ALL, Dimension.MODEL, Dimension.HOUR),
    (*ALL, Dimension.REQUEST),
)
LOST = lost(UNSAVED)
Window = tuple[Micros | None, Micros | None]
Target = Path | str


def part_of(bill: Bill, tenant: str) -> dict[tuple[str | None, ...], Sums]:
    """The rows of a bill by tenant and more that are a tenant's, without the tenant."""
    assert bill.by[0] is Dimension.TENANT
    return {
        row.key[1:]: (row.device_nanos, row.nano_usd, row.price)
        for row in bill.rows
        if row.key[0] == tenant and (row.device_nanos or row.nano_usd or row.price)
    }


def rows_of(bill: Bill) -> dict[tuple[str | None, ...], Sums]:
    return {row.key: (row.device_nanos, row.nano_usd, row.price) for row in bill.rows}


def own_is_a_part(target: Database, window: Window) -> None:
    """Every tenant's bills of a window are its part of everybody's."""
    span = {"from_us": window[0], "to_us": window[1]}
    for by in BREAKDOWNS:
        everybody = books.bill(target, by=(Dimension.TENANT, *by), **span)
        bills = {
            tenant: books.bill(target, by=by, tenant=TenantName(tenant), **span)
            for tenant in TENANTS
        }
        for tenant, own in bills.items():
            part = part_of(everybody, tenant)
            assert rows_of(own) == part
            sums = tuple(sum(one[index] for one in part.values()) for index in range(3))
            assert (own.device_nanos, own.nano_usd, own.price) == sums
            assert own.cut_hours == everybody.cut_hours
        assert everybody.uncharged == sum(own.uncharged for own in bills.values())
    by = (Dimension.TENANT, Dimension.KIND)
    shared = books.bill(target, by=by, shared=Method.PROPORTIONAL, **span)
    for tenant in TENANTS:
        own = books.bill(target, tenant=TenantName(tenant), **span)
        assert rows_of(own) == part_of(shared, tenant)


def statements_agree(target: Database, window: Window) -> None:
    """Every tenant's statement and FOCUS records are its part of everybody's."""
    span = {
        "from_us": Micros(START) if window[0] is None else window[0],
        "to_us": NOW if window[1] is None else window[1],
    }
    everybody = books.statement(target, **span)
    records = focus_records(target, **span)
    for tenant in TENANTS:
        own = books.statement(target, tenant=TenantName(tenant), **span)
        bill = books.bill(target, tenant=TenantName(tenant), **span)
        assert (own.device_nanos, own.price) == (bill.device_nanos, bill.price)
        payers = sorted(
            (one.project, one.requests, one.device_nanos, one.price)
            for one in everybody.payers
            if one.tenant == tenant
        )
        # Without their cost, projects of equal price come in another order.
        assert payers == sorted(
            (one.project, one.requests, one.device_nanos, one.price) for one in own.payers
        )
        assert sorted((one.name, one.device_nanos, one.price) for one in own.trained) == sorted(
            (one.name, one.device_nanos, one.price)
            for one in everybody.trained
            if one.tenant == tenant
        )
        private = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "x_Cost")
        assert [
            {name: value for name, value in one.values.items() if name not in private}
            for one in focus_records(target, tenant=TenantName(tenant), **span)
        ] == [
            {name: value for name, value in one.values.items() if name not in private}
            for one in records
            if one.values["SubAccountId"] == tenant
        ]


def as_written(bill: Bill) -> dict[Parts, Sums]:
    """The rows of a bill by everything, as `PartedBooks.expected` has them."""
    sums: dict[Parts, Sums] = {}
    for row in bill.rows:
        kind, project, key, deployment, job, request = (part or "" for part in row.key)
        sums[kind, project, key, deployment, job, request] = (
            *(row.device_nanos, row.nano_usd, row.price),
        )
    return sums


def windows_of(made: PartedBooks, rng: random.Random) -> list[Window]:
    """Everything, an hour, and windows between moments that decide: they cut intervals, parts and
    hours."""
    first, last = sorted(Micros(one) for one in rng.sample(made.moments(), 2))
    hour = Micros(START + HOUR_US * rng.randrange(0, 4))
    return [
        (None, None),
        (None, first),
        (first, last),
        (last, None),
        (hour, Micros(hour + HOUR_US)),
    ]


def rerate(target: Target, rng: random.Random, made: PartedBooks) -> None:
    """Another price for devices and other rates, for a part of the past."""
    begin = START + rng.randrange(0, max(1, made.now - START))
    with closing(open_store(target, house="other")) as store:
        known = store.price_book().versions
        recorded = Micros(NOW - 1_000 + 10 * len(known))
        store.add_price(
            PriceVersion(
                device_kind="cpu-core",
                effective=Micros(begin if known else 0),
                recorded=recorded,
                basis=Rented(nano_usd_per_device_hour=NanoUSD(rng.randrange(0, 10**8))),
            )
        )
        store.add_rate(
            RateVersion(
                effective=Micros(begin),
                recorded=recorded,
                rates=ByCost(markup_permille=rng.randrange(-500, 500)),
            )
        )
    span = {"from_us": Micros(begin), "to_us": Micros(made.now), "reason": "test"}
    books.rerate_costs(target, **span, now=Micros(recorded + 1))
    books.rerate_prices(target, **span, now=Micros(recorded + 1))


def filtered_is_a_part(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    with closing(open_store(target, house="here")) as store:
        made = PartedBooks(store, rng)
        for _ in range(rng.randrange(0, 3)):
            made.session(intervals=rng.randrange(1, 6), fate=rng.choice(["ends", "crashes"]))
        made.session(intervals=rng.randrange(1, 6), fate=rng.choice(["ends", "crashes", "runs"]))
    windows = windows_of(made, rng)

    def look() -> None:
        with closing(open_database(target, read_only=True)) as database:
            for window in windows:
                own_is_a_part(database, window)
                statements_agree(database, window)

    with closing(open_database(target, read_only=True)) as database:
        for from_us, to_us in windows:
            span = {"from_us": from_us, "to_us": to_us}
            for tenant in TENANTS:
                own = books.bill(
                    database, by=(*ALL, Dimension.REQUEST), tenant=TenantName(tenant), **span
                )
                assert as_written(own) == made.expected(tenant, from_us, to_us)
    look()
    for _ in range(rng.randrange(0, 3)):
        rerate(target, rng, made)
    look()
    for limit in sorted(rng.sample(range(START, made.now + 2 * HOUR_US), 2)):
        books.compact(target, before=Micros(limit), now=NOW)
        look()
    report = books.check(target)
    assert report.balanced, report.fault


random_books = given(seed=st.integers(0, 2**32))


@settings(max_examples=10, deadline=None)
@random_books
def test_a_tenants_bill_is_its_part_of_everybodys_in_sqlite(seed: int) -> None:
    with TemporaryDirectory() as folder:
        filtered_is_a_part(Path(folder) / "books.sqlite", seed)


@settings(max_examples=2, deadline=None)
@random_books
def test_a_tenants_bill_is_its_part_of_everybodys_in_postgresql(
    postgres_server: PostgresServer, seed: int
) -> None:
    with postgres_server.fresh_database() as dsn:
        filtered_is_a_part(dsn, seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite"


def write(path: Path, *batches: Batch) -> None:
    with closing(open_store(path, house="here")) as store:
        for batch in batches:
            store.write(batch)


def test_a_charge_comes_late_and_is_of_the_moment_its_part_began(path: Path) -> None:
    """Two commands are two moments: what a past time is charged grows while a part is unsaved."""
    span = {"from_us": Micros(store_rows.START), "to_us": Micros(store_rows.START + 3_000_000)}
    seconds = [interval(number, {UNSAVED: 400_000_000}) for number in range(3)]
    write(path, Batch(closed=tuple(seconds)))
    everybody = books.bill(path, **span)
    assert (everybody.price, everybody.uncharged) == (0, 1_200_000_000)
    saved = {UNSAVED: -1_200_000_000, TRAINING: 1_300_000_000, LOST: 0}
    charge = charge_row(1_300_000_000, 50, at=store_rows.START + 10)
    write(path, Batch(session=SESSION, charges=(charge,)))
    # The charge is durable before the interval that says so is closed.
    own = books.bill(path, tenant=TENANT, **span)
    assert (own.price, own.intervals, own.ended) == (50, everybody.intervals, everybody.ended)
    assert own.price == books.bill(path, **span).price
    write(path, Batch(closed=(interval(3, saved),)))
    for tenant in (None, TENANT):
        later = books.bill(path, tenant=tenant, **span)
        assert (later.price, later.uncharged) == (50, 0)


def test_training_that_is_lost_waits_no_more(path: Path) -> None:
    write(
        path,
        Batch(closed=(interval(0, {UNSAVED: 400_000_000}),)),
        Batch(closed=(interval(1, {UNSAVED: -400_000_000, LOST: 400_000_000}),)),
    )
    assert books.bill(path, tenant=TENANT).uncharged == 0


def test_a_part_begun_after_the_end_of_a_bill_does_not_wait_in_it(path: Path) -> None:
    write(
        path,
        Batch(closed=(interval(0, {TRAINING: 400_000_000}),)),
        Batch(closed=(interval(1, {UNSAVED: 300_000_000}),)),
    )
    assert books.bill(path).uncharged == 300_000_000
    assert books.bill(path, to_us=Micros(store_rows.START + 1_000_000)).uncharged == 0
    assert books.bill(path, tenant=TenantName("nobody")).uncharged == 0


def test_two_tenants_jobs_of_one_name_are_two_jobs(path: Path) -> None:
    """Houses that share the books do not know of each other's jobs."""
    theirs = replace(TRAINING, tenant=TenantName("umbrella"), project=ProjectName("x"))
    lost_by_them = lost(replace(theirs, note=UNCHECKPOINTED))
    used = {TRAINING: 100_000_000, theirs: 300_000_000, lost_by_them: 200_000_000}
    other = replace(charge_row(2, 7), account=theirs)
    with closing(open_store(path, house="here")) as store:
        store.write(Batch(closed=(interval(0, used),), charges=(charge_row(1, 5), other)))
        store.save_job(job_of(TENANT))
        store.write(Batch(session=SESSION, losses=(loss_row(4),)))
    with closing(open_store(path, house="there")) as store:
        store.save_job(job_of(TenantName("umbrella")))
        store.write(Batch(session="s2", losses=(loss_row(9),)))
    span = {"from_us": Micros(store_rows.START), "to_us": Micros(store_rows.START + 1_000_000)}
    found = books.statement(path, **span).trained
    assert [(one.tenant, one.device_nanos, one.price, one.lost, one.steps) for one in found] == [
        ("umbrella", 300_000_000, 7, cost_of(200_000_000), 9),
        ("acme", 100_000_000, 5, 0, 4),
    ]
    for one in found:
        (own,) = books.statement(path, tenant=TenantName(one.tenant), **span).trained
        assert own == replace(one, cost=NanoUSD(0), lost=NanoUSD(0), cost_per_step=None)


def test_lost_work_that_could_be_of_two_tenants_is_of_none(path: Path) -> None:
    theirs = replace(TRAINING, tenant=TenantName("umbrella"))
    write(path, Batch(closed=(interval(0, {TRAINING: 10**8, theirs: 10**8, LOST: 10**8}),)))
    found = books.statement(path, from_us=Micros(0), to_us=NOW).trained
    assert {(one.tenant, one.lost) for one in found} == {
        ("umbrella", 0),
        ("acme", 0),
        ("", cost_of(10**8)),
    }


def job_of(tenant: TenantName) -> Job:
    return Job(spec=replace(make_spec(JOB), tenant=tenant), status=JobStatus.RUNNING)
