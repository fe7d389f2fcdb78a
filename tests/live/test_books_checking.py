"""Each law of the books, broken on purpose, is found and named with both numbers."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.line import Kind
from meted.domain.units import BudgetName, Micros, NanoUSD, TenantName
from meted.ledger.windows import window_of
from meted.live import books
from meted.live.audited import AuditedStore
from meted.live.store import Batch, LeaseWish
from meted.live.stores import open_store
from meted.testing.store_rows import (
    START,
    TRAINING,
    budget,
    charge_row,
    interval,
    request_account,
    request_row,
)

NOW = Micros(START + 10**15)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six requests of a tenant with a hard budget, a job with charges, all of it over."""
    path = tmp_path / "books.sqlite"
    limit = budget("month", 10_000)
    window = window_of(limit, Micros(START))
    with closing(open_store(path, house="here")) as store:
        audited = AuditedStore(store, wall=lambda: Micros(START), actor="test")
        audited.save_budget(limit)
        wish = LeaseWish(window=window, granted=NanoUSD(8_000), least=NanoUSD(0))
        store.lease([wish], now=Micros(START), until=Micros(START + 10**9))
        for number in range(6):
            used = {request_account(number): 100_000_000, TRAINING: 200_000_000}
            row = request_row(number, 100_000_000, windows=(window,))
            store.write(Batch(closed=(interval(number, used),), requests=(row,)))
        store.write(Batch(closed=(interval(6, {}),), charges=(charge_row(7, 50),)))
        store.crashed()
    return path


def edit(path: Path, *statements: str) -> None:
    """What no part of Meted does: change closed books behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for (name,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)


def fault(path: Path) -> str:
    return books.check(path).fault or ""


def fold(path: Path) -> None:
    assert books.compact(path, before=Micros(NOW - 10**12), now=NOW).requests == 6


def test_every_law_is_tested_on_what_it_is_about(path: Path) -> None:
    report = books.check(path)
    assert report.balanced, report.fault
    assert [law.tested for law in report.laws] == [7, 7, 7, 0, 6, 6, 0, 1, 1, 1]
    fold(path)
    report = books.check(path)
    assert report.balanced, report.fault
    assert [law.tested for law in report.laws] == [1, 1, 1, 0, 0, 0, 1, 0, 1, 1]
    assert (report.intervals, report.hours, report.folded) == (7, 1, 6)


def test_a_price_is_held_from_where_it_began(path: Path) -> None:
    edit(path, "UPDATE intervals SET priced_from = priced_from + 1 WHERE number = 3")
    assert "interval 3 of session s1 has a price since (us) 1700000000000001" in fault(path)


def test_time_left_on_another_account_of_a_request_is_found(path: Path) -> None:
    edit(
        path,
        "INSERT INTO accounts SELECT 99, kind, 'other', project, key_id, deployment, model, job,"
        " note FROM accounts WHERE kind = 'request'",
        "INSERT INTO lines VALUES (1, 2, 9, 99, 'request-2', 5, 0)",
        "UPDATE lines SET device_nanos = device_nanos - 5"
        " WHERE number = 2 AND account = (SELECT id FROM accounts WHERE kind = 'idle')",
    )
    assert "request request-2 ended, but 5 ns and 0 nano-USD of it are left" in fault(path)


def test_a_folded_hour_that_was_changed_is_found(path: Path) -> None:
    fold(path)
    edit(path, "UPDATE hour_requests SET cost = cost + 3")
    assert "3 nano-USD more than its lines hold" in fault(path)


def test_folded_lines_that_were_changed_are_found(path: Path) -> None:
    fold(path)
    edit(path, "UPDATE hour_lines SET amount = amount + 1 WHERE account = 1")
    assert "folded intervals 0 to 6 of session s1 has lines of (nano-USD)" in fault(path)


def test_a_hole_between_a_folded_hour_and_the_next_interval_is_found(path: Path) -> None:
    fold(path)
    with closing(open_store(path, house="here")) as store:
        store.write(Batch(closed=(interval(7, {}),)))
    edit(
        path,
        "UPDATE lines SET number = 8 WHERE number = 7",
        "UPDATE intervals SET number = 8 WHERE number = 7",
    )
    assert "interval 8 of session s1 is numbered 8, but its place is 7" in fault(path)


def test_a_correction_of_nothing_is_found(path: Path) -> None:
    edit(
        path,
        "INSERT INTO rerates VALUES (1, 5, 0, 9, 'test')",
        "INSERT INTO corrections VALUES (1, 1, 77, 1, null, 4)",
    )
    assert "interval 77 of session s1 is not there, but has corrections of 4" in fault(path)


def test_more_charged_than_trained_is_found(path: Path) -> None:
    edit(path, "UPDATE charges SET device_nanos = 1200000001")
    assert "job night-shift is charged for 1200000001 ns, but its lines hold 1200000000" in fault(
        path
    )


def test_what_a_job_loads_is_charged_like_its_training(path: Path) -> None:
    loading = replace(TRAINING, kind=Kind.LOADING)
    loads = interval(7, {loading: 30_000_000})
    used = replace(charge_row(8, 0), device_nanos=1_230_000_000 - 7)
    with closing(open_store(path, house="here")) as store:
        store.write(Batch(closed=(loads,), charges=(used,)))
        store.crashed()
    report = books.check(path)
    assert report.balanced, report.fault
    edit(path, "UPDATE charges SET device_nanos = device_nanos + 1 WHERE id = 'night-shift/8'")
    assert "job night-shift is charged for 1230000001 ns" in fault(path)


def test_a_request_that_is_also_a_charge_is_found(path: Path) -> None:
    edit(path, "UPDATE charges SET id = 'request-4', price = 0, device_nanos = 0")
    assert "request-4 is both a request and a charge" in fault(path)


def test_spent_that_was_not_charged_is_found(path: Path) -> None:
    edit(path, "UPDATE budget_leases SET spent = spent + 1 WHERE house = 'here'")
    assert "has 3381 nano-USD spent, but 3380 were charged in its scope" in fault(path)


def test_a_lost_posting_is_found_by_its_budget(path: Path) -> None:
    edit(path, "UPDATE charges SET price = 0")
    assert "has 3380 nano-USD spent, but 3330 were charged" in fault(path)


def test_a_grant_over_the_limit_is_found(path: Path) -> None:
    edit(path, "UPDATE budget_leases SET granted = 10001 WHERE house = 'here'")
    assert "has 10001 nano-USD held and spent by houses, but its limit was never over 10000" in (
        fault(path)
    )


def test_a_limit_that_was_lowered_later_is_no_fault(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        audited = AuditedStore(store, wall=lambda: Micros(START + 1), actor="test")
        audited.save_budget(budget("month", 100))
    assert books.check(path).balanced


def test_a_soft_budget_may_be_overspent(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        audited = AuditedStore(store, wall=lambda: Micros(START + 1), actor="test")
        audited.save_budget(budget("month", 100, hard=False))
    edit(path, "UPDATE budget_leases SET granted = 99999 WHERE house = 'here'")
    assert books.check(path).balanced


def test_a_removed_budget_is_not_checked(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        store.remove_budget(BudgetName("month"))
    assert books.check(path).balanced


def test_bill_of_a_tenant_is_the_tenants(path: Path) -> None:
    bill = books.bill(path, tenant=TenantName("acme"))
    assert {row.key for row in bill.rows} == {("request",), ("training",)}
    assert bill.intervals == 6
    assert books.bill(path, tenant=TenantName("nobody")).intervals == 0
