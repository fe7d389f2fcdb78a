"""Money for training: set aside ahead, charged part by part, and never more than was set aside."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from desk_world import House, World

from meted.domain.line import Account, Kind
from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_SECOND, BudgetName, DeviceNanos, Micros, NanoUSD
from meted.ledger.rates import RateBook, RateCard, RateVersion
from meted.live.job_funds import AHEAD_S, LEAST_S, JobFunds
from meted.live.pricing import Pricing
from meted.testing.builders import make_spec
from meted.testing.store_rows import TENANT, budget

SECOND = 1_000
"""What a device-second of training is charged here, in nano-USD."""
SPEC = replace(make_spec(), tenant=TENANT)
ACCOUNT = Account(kind=Kind.TRAINING, tenant=TENANT, job=SPEC.name)
CARD = RateCard(input=0, cached_input=0, output=0, training=SECOND)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def funds_of(house: House) -> JobFunds:
    version = RateVersion(effective=Micros(0), recorded=Micros(0), rates=CARD)
    return JobFunds(
        session=f"session of {house.name}",
        wall=lambda: house.world.now,
        desk=house.desk,
        pricing=Pricing(RateBook(versions=(version,))),
        devices=1,
        price=lambda: Price(nano_usd_per_device_hour=NanoUSD(0)),
    )


def seconds(count: float) -> DeviceNanos:
    return DeviceNanos(round(count * NANOS_PER_SECOND))


def with_budget(world: World, limit: int) -> tuple[House, JobFunds]:
    """A house that knows a budget with so much in it."""
    world.save(budget("b", limit))
    house = world.house("a")
    house.ask("first look", 0)
    world.ticks()
    house.give_up("first look")
    return house, funds_of(house)


def pending(house: House) -> int:
    (balance,) = house.desk.transfers.balances().values()
    return balance.pending


def test_without_a_budget_a_job_runs_and_is_charged(world: World) -> None:
    funds = funds_of(world.house("a"))
    assert funds.begin(SPEC) is None
    assert funds.extend(SPEC, seconds(7), NanoUSD(0), running=0) is None
    row = funds.charge(SPEC, ACCOUNT, seconds(10), NanoUSD(5))
    assert row is not None
    assert (row.price, row.device_nanos, row.cost, row.windows) == (10_000, seconds(10), 5, ())
    assert funds.charged(SPEC.name) == 10_000


def test_some_seconds_are_always_set_aside_ahead(world: World) -> None:
    house, funds = with_budget(world, 100_000)
    assert funds.begin(SPEC) is None
    assert pending(house) == AHEAD_S * SECOND
    assert funds.extend(SPEC, seconds(4), NanoUSD(0), running=0) is None
    assert pending(house) == (4 + AHEAD_S) * SECOND
    row = funds.charge(SPEC, ACCOUNT, seconds(4.5), NanoUSD(0))
    assert row is not None and row.price == 4_500
    assert len(row.windows) == 1
    assert pending(house) == 0


def test_parts_add_up_to_the_whole_and_have_names_of_their_own(world: World) -> None:
    _, funds = with_budget(world, 100_000)
    rows = []
    for used in (1.0005, 2.0009, 2.0009, 7.5):
        assert funds.extend(SPEC, seconds(used), NanoUSD(0), running=0) is None
        rows.append(funds.charge(SPEC, ACCOUNT, seconds(used), NanoUSD(0)))
    assert rows[2] is None, "nothing was used"
    made = [row for row in rows if row is not None]
    assert sum(row.price for row in made) == 7_500 == funds.charged(SPEC.name)
    assert sum(row.device_nanos for row in made) == seconds(7.5)
    assert len({row.id for row in made}) == 3


def test_a_job_stops_with_the_seconds_that_it_takes_still_paid(world: World) -> None:
    """The budget is for 10 s; at the last allowed look 3 s are still set aside beyond it."""
    house, funds = with_budget(world, 10 * SECOND)
    assert funds.begin(SPEC) is None
    used = 0.0
    while funds.extend(SPEC, seconds(used), NanoUSD(0), running=0) is None:
        used += 0.25
    assert used == 10 - LEAST_S + 0.25
    row = funds.charge(SPEC, ACCOUNT, seconds(10 - 0.5), NanoUSD(0))
    assert row is not None and row.price == 9_500
    again = funds.begin(SPEC)
    assert again is not None and "'b' has $0.0000095" in again
    (gauge,) = house.desk.gauges()
    assert gauge.refusals == 1, "counted once, however often it asks"


def test_no_charge_exceeds_what_was_set_aside(world: World) -> None:
    house, funds = with_budget(world, 6 * SECOND)
    assert funds.begin(SPEC) is None
    row = funds.charge(SPEC, ACCOUNT, seconds(60), NanoUSD(0))
    assert row is not None and row.price == AHEAD_S * SECOND
    assert house.desk.gauges()[0].spent == AHEAD_S * SECOND


def test_what_the_house_lost_is_not_charged_with_the_next_part(world: World) -> None:
    _, funds = with_budget(world, 100 * SECOND)
    assert funds.begin(SPEC) is None
    funds.charge(SPEC, ACCOUNT, seconds(60), NanoUSD(0))
    assert funds.begin(SPEC) is None
    row = funds.charge(SPEC, ACCOUNT, seconds(61), NanoUSD(0))
    assert row is not None and row.price == SECOND


def test_a_part_that_was_lost_costs_nothing_and_holds_nothing(world: World) -> None:
    house, funds = with_budget(world, 100_000)
    assert funds.begin(SPEC) is None
    funds.void(SPEC.name)
    funds.void(SPEC.name)
    assert pending(house) == 0
    assert funds.charge(SPEC, ACCOUNT, seconds(1), NanoUSD(0)) is None
    assert funds.charged(SPEC.name) == 0


def test_a_job_is_not_stopped_by_a_budget_that_is_only_not_read_yet(world: World) -> None:
    """The first part after midnight begins before its day's money has come."""
    world.save(budget("b", 100_000))
    house = world.house("a")
    funds = funds_of(house)
    assert funds.begin(SPEC) is not None, "who has not begun can wait"
    house = world.house("b")
    funds = funds_of(house)
    assert funds.extend(SPEC, seconds(1), NanoUSD(0), running=0) is None
    world.ticks()
    assert funds.extend(SPEC, seconds(1.25), NanoUSD(0), running=0) is None
    assert pending(house) == 1_250 + AHEAD_S * SECOND


def test_a_job_whose_budget_never_tells_stops(world: World) -> None:
    world.save(budget("b", 100_000))
    house = world.house("a")
    funds = funds_of(house)
    assert funds.extend(SPEC, seconds(1), NanoUSD(0), running=0) is None
    world.pass_seconds(1.5)
    assert funds.extend(SPEC, seconds(2), NanoUSD(0), running=0) is not None


def test_a_removed_budget_holds_up_no_job(world: World) -> None:
    house, funds = with_budget(world, 6 * SECOND)
    assert funds.begin(SPEC) is None
    world.books.remove_budget(BudgetName("b"))
    world.reread()
    world.ticks()
    assert funds.extend(SPEC, seconds(50), NanoUSD(0), running=0) is None
    row = funds.charge(SPEC, ACCOUNT, seconds(50), NanoUSD(0))
    assert row is not None and row.price == 50 * SECOND
    assert house.desk.gauges() == []


def test_a_budget_removed_before_it_was_read_holds_up_no_job(world: World) -> None:
    world.save(budget("b", 6 * SECOND))
    funds = funds_of(world.house("a"))
    assert funds.extend(SPEC, seconds(1), NanoUSD(0), running=0) is None
    world.books.remove_budget(BudgetName("b"))
    world.reread()
    for used in (2, 50):
        assert funds.extend(SPEC, seconds(used), NanoUSD(0), running=0) is None
    row = funds.charge(SPEC, ACCOUNT, seconds(50), NanoUSD(0))
    assert row is not None and (row.price, row.windows) == (50 * SECOND, ())
