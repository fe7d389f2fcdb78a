"""Re-rating writes corrections beside what is there; twice is once, and the laws hold."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from meted.domain.request import Outcome
from meted.domain.units import Micros, NanoUSD, TenantName
from meted.ledger.price_book import PriceVersion, Rented
from meted.ledger.rates import ByCost, RateCard, Rates, RateVersion
from meted.live import books
from meted.live.books import Dimension, Rerated
from meted.live.store import Batch, StoreError
from meted.live.stores import open_store
from meted.testing.store_rows import (
    START,
    TRAINING,
    charge_row,
    interval,
    request_account,
    request_row,
)

SECOND = 1_000_000
END = Micros(START + 10 * SECOND)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        for number in range(6):
            used = {TRAINING: 400_000_000, request_account(number): 100_000_000}
            row = request_row(number, 100_000_000)
            store.write(Batch(closed=(interval(number, used),), requests=(row,)))
    return path


def set_price(path: Path, hourly: int, *, recorded: int, effective: int = START) -> None:
    with closing(open_store(path, house="here")) as store:
        store.add_price(
            PriceVersion(
                device_kind="cpu-core",
                effective=Micros(effective),
                recorded=Micros(END + recorded),
                basis=Rented(nano_usd_per_device_hour=NanoUSD(hourly)),
            )
        )


def set_rates(
    path: Path, rates: Rates, *, recorded: int, effective: int = START, tenant: str | None = None
) -> None:
    with closing(open_store(path, house="here")) as store:
        store.add_rate(
            RateVersion(
                effective=Micros(effective),
                recorded=Micros(recorded),
                rates=rates,
                tenant=None if tenant is None else TenantName(tenant),
            )
        )


def costs(path: Path, *, now: int, from_us: int = START, to_us: int = END) -> Rerated:
    return books.rerate_costs(
        path,
        from_us=Micros(from_us),
        to_us=Micros(to_us),
        reason="the invoice came",
        now=Micros(END + now),
    )


def prices(path: Path, *, now: int, from_us: int = START, to_us: int = END) -> Rerated:
    return books.rerate_prices(
        path,
        from_us=Micros(from_us),
        to_us=Micros(to_us),
        reason="a discount",
        now=Micros(END + now),
    )


def balanced(path: Path) -> None:
    report = books.check(path)
    assert report.balanced, report.fault


def test_a_re_rated_period_costs_its_capacity_at_the_new_price(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    done = costs(path, now=2)
    assert done.changed == 6
    assert done.amount == 33_333
    assert books.bill(path).nano_usd == 66_666
    balanced(path)


def test_re_rating_twice_adds_nothing(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    costs(path, now=2)
    assert costs(path, now=3) == Rerated()
    balanced(path)


def test_closed_lines_are_never_edited(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("SELECT * FROM lines").fetchall()
    set_price(path, 7, recorded=1)
    costs(path, now=2)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM lines").fetchall() == before


def test_back_to_the_old_price_is_back_to_the_old_amounts(path: Path) -> None:
    before = books.bill(path, by=(Dimension.REQUEST, Dimension.KIND))
    set_price(path, 33_333_333, recorded=1)
    costs(path, now=2)
    assert books.bill(path, by=(Dimension.REQUEST, Dimension.KIND)).rows != before.rows
    set_price(path, 20_000_000, recorded=3)
    costs(path, now=4)
    assert books.bill(path, by=(Dimension.REQUEST, Dimension.KIND)).rows == before.rows
    balanced(path)


def test_only_intervals_of_the_period_are_corrected(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    done = costs(path, now=2, from_us=START + 2 * SECOND, to_us=START + 4 * SECOND)
    assert done.changed == 2
    balanced(path)
    assert costs(path, now=3).changed == 4
    assert books.bill(path).nano_usd == 66_666
    balanced(path)


def test_a_price_that_begins_within_the_period_holds_from_there_on(path: Path) -> None:
    set_price(path, 20_000_000, recorded=1)
    set_price(path, 0, recorded=2, effective=START + 3 * SECOND)
    assert costs(path, now=3).changed == 3
    assert books.bill(path).nano_usd == 16_666
    balanced(path)


def test_a_time_without_a_price_is_refused(path: Path) -> None:
    set_price(path, 1, recorded=1, effective=START + 3 * SECOND)
    with pytest.raises(StoreError, match="no price"):
        costs(path, now=2)
    assert books.bill(path).nano_usd == 33_333


def test_a_clock_behind_the_book_is_refused(path: Path) -> None:
    set_price(path, 1, recorded=10)
    with pytest.raises(StoreError, match="clock"):
        costs(path, now=10)


def test_a_wrong_correction_is_found(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    costs(path, now=2)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TRIGGER corrections_no_update")
        db.execute("UPDATE corrections SET amount = amount + 1 WHERE number = 3 AND account = 2")
    fault = books.check(path).fault or ""
    assert "interval 3 of session s1 has lines and corrections of (nano-USD) 11112" in fault
    assert "11111" in fault


def test_requests_are_charged_anew_by_the_rates_that_hold_for_their_time_now(path: Path) -> None:
    card = RateCard(input=1_000_000, cached_input=0, output=2_000_000, training=0)
    set_rates(path, card, recorded=END)
    done = prices(path, now=1)
    # Two uncached prompt tokens and four of an answer: 2 * 1,000 + 4 * 2,000 nano-USD.
    assert done.changed == 6
    assert books.bill(path).price == 6 * 10_000
    assert books.bill(path).nano_usd == 33_333
    assert prices(path, now=2) == Rerated()
    balanced(path)


def test_rates_that_were_known_when_a_request_came_change_nothing(path: Path) -> None:
    set_rates(path, ByCost(), recorded=START - 1)
    assert prices(path, now=1) == Rerated()


def test_price_corrections_are_the_tenants_who_are_charged(path: Path) -> None:
    set_rates(path, ByCost(markup_permille=1000), recorded=END, tenant="acme")
    prices(path, now=1)
    bill = books.bill(path, by=[Dimension.TENANT])
    assert {row.key: row.price for row in bill.rows} == {("acme",): 6 * 2 * 555, (None,): 0}


def test_what_was_waived_stays_waived(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        used = {request_account(6): 50_000_000}
        row = request_row(6, 50_000_000, outcome=Outcome.DONE, price=0)
        store.write(Batch(closed=(interval(6, used),), requests=(row,)))
    set_rates(path, ByCost(markup_permille=500), recorded=END)
    done = prices(path, now=1)
    assert (done.changed, done.kept) == (6, 1)
    waived = [
        row for row in books.bill(path, by=[Dimension.REQUEST]).rows if row.key == ("request-6",)
    ]
    assert [row.price for row in waived] == [0]


def test_charge_back_follows_the_corrected_cost(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    costs(path, now=2)
    prices(path, now=3)
    bill = books.bill(path, by=[Dimension.REQUEST])
    requests = [row for row in bill.rows if row.key[0] is not None]
    assert all(row.price == row.nano_usd for row in requests)
    assert sum(row.price for row in requests) > 6 * 1_100


def test_training_is_rated_over_the_life_of_a_job(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        parts = [charge_row(number, 0, at=START + number) for number in (1, 2, 3)]
        store.write(Batch(session="s1", charges=tuple(parts)))
    # Half a nano-USD for each nanosecond: 1, 3 and 6 of them are 0, 1 and 3 nano-USD.
    card = RateCard(input=0, cached_input=0, output=0, training=500_000_000)
    set_rates(path, card, recorded=END)
    prices(path, now=1)
    bill = books.bill(path, by=[Dimension.JOB])
    assert {row.key: row.price for row in bill.rows}[("night-shift",)] == 3


def test_folded_requests_cannot_be_rated_anew(path: Path) -> None:
    set_price(path, 40_000_000, recorded=1)
    later = END + 48 * 3_600_000_000
    with closing(open_store(path, house="here")) as store:
        store.crashed()
    assert books.compact(
        path, before=Micros(later - 30 * 3_600_000_000), now=Micros(later)
    ).requests
    with pytest.raises(StoreError, match="folded"):
        prices(path, now=2)
