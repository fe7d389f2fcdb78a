"""The meter's promises, one by one; tests/laws holds conservation under everything at once."""

import pytest

from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Price
from meted.domain.units import DeviceNanos, Micros, NanoUSD, RequestId, TenantName
from meted.ledger.meter import Meter
from meted.ledger.money import amount
from meted.ledger.recovery import lost

PRICE = Price(nano_usd_per_device_hour=NanoUSD(20_000_000))
SECOND = 1_000_000
HOUSE = Account(kind=Kind.OVERHEAD)
IN_PROGRESS = Account(kind=Kind.REQUEST, note="in progress")
REQUEST = Account(kind=Kind.REQUEST, tenant=TenantName("acme"), request=RequestId("r1"))


def make_meter() -> Meter:
    return Meter(session="s", devices=2, price=PRICE, started=Micros(0))


def nanos(interval: Interval, account: Account) -> int:
    return sum(line.device_nanos for line in interval.lines if line.account == account)


def by_kind(interval: Interval, kind: Kind) -> int:
    return sum(line.device_nanos for line in interval.lines if line.account.kind is kind)


def test_an_unused_pool_is_all_idle_and_still_costs() -> None:
    interval = make_meter().close(Micros(3600 * SECOND))
    assert by_kind(interval, Kind.IDLE) == 2 * 3600 * 10**9
    assert interval.amount == 40_000_000


def test_a_step_that_spans_two_intervals_is_split_where_the_clock_was_read() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    meter.read("e", DeviceNanos(300))
    first = meter.close(Micros(SECOND))
    meter.charge("e", DeviceNanos(1000), {REQUEST: DeviceNanos(1000)})
    second = meter.close(Micros(2 * SECOND))
    assert nanos(first, IN_PROGRESS) == 300
    assert nanos(second, IN_PROGRESS) == -300
    assert nanos(second, REQUEST) == 1000
    assert by_kind(first, Kind.REQUEST) == 300
    assert by_kind(second, Kind.REQUEST) == 700


def test_the_cost_told_at_the_end_is_what_the_books_hold() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    booked = 0
    clock = 0
    for tick in range(1, 50):
        clock += 123_456_789
        meter.charge("e", DeviceNanos(clock), {REQUEST: DeviceNanos(123_456_789)})
        interval = meter.close(Micros(tick * SECOND))
        booked += sum(line.amount for line in interval.lines if line.account == REQUEST)
    assert booked == meter.cost(REQUEST) == amount(DeviceNanos(clock), PRICE)


def test_a_late_reading_changes_nothing() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    meter.read("e", DeviceNanos(500))
    meter.read("e", DeviceNanos(400))
    assert nanos(meter.close(Micros(SECOND)), IN_PROGRESS) == 500


def test_parts_that_do_not_cover_the_clock_are_refused() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    with pytest.raises(ValueError, match="covered 1000 ns"):
        meter.charge("e", DeviceNanos(1000), {REQUEST: DeviceNanos(999)})


def test_a_failed_request_is_lost_and_its_tenant_pays_nothing() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    meter.charge("e", DeviceNanos(700), {REQUEST: DeviceNanos(700)})
    meter.close(Micros(SECOND))
    meter.move(REQUEST, lost(REQUEST))
    second = meter.close(Micros(2 * SECOND))
    assert nanos(second, REQUEST) == -700
    assert nanos(second, lost(REQUEST)) == 700
    assert lost(REQUEST).tenant is None


def test_more_than_the_capacity_waits_for_the_next_interval() -> None:
    meter = make_meter()
    meter.open("house", HOUSE)
    meter.read("house", DeviceNanos(2 * 10**9 + 50))
    first = meter.close(Micros(SECOND))
    second = meter.close(Micros(2 * SECOND))
    assert nanos(first, HOUSE) == 2 * 10**9
    assert by_kind(first, Kind.IDLE) == 0
    assert nanos(second, HOUSE) == 50


def test_a_settled_account_is_posted_and_then_forgotten() -> None:
    meter = make_meter()
    meter.open("e", IN_PROGRESS)
    meter.charge("e", DeviceNanos(700), {REQUEST: DeviceNanos(700)})
    meter.settle(REQUEST)
    assert nanos(meter.close(Micros(SECOND)), REQUEST) == 700
    assert meter.used(REQUEST) == 0
    assert nanos(meter.close(Micros(2 * SECOND)), REQUEST) == 0
