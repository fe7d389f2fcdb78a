"""A past interval at another price: its lines sum to its cost, whatever the price."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_MICRO, Micros, NanoUSD
from meted.ledger.money import DEVICE_NANOS_PER_HOUR
from meted.ledger.price_book import PriceBook, PriceVersion, Rented
from meted.ledger.rerate import PastPrices, interval_amount, price_again, spread


def price(hourly: int) -> Price:
    return Price(nano_usd_per_device_hour=NanoUSD(hourly))


def test_line_amounts_round_down_and_what_is_left_goes_to_the_largest_fractions() -> None:
    # A third of a nano-USD each, one nano-USD in all: the first of equals gets it.
    third = DEVICE_NANOS_PER_HOUR // 3
    assert spread(NanoUSD(1), [third, third, third], price(1)) == [1, 0, 0]
    assert spread(NanoUSD(2), [third, 4 * third, third], price(1)) == [1, 1, 0]
    assert spread(NanoUSD(1), [third, 2 * third], price(1)) == [0, 1]


def test_a_negative_line_is_rated_like_its_opposite_but_for_rounding() -> None:
    hour = DEVICE_NANOS_PER_HOUR
    assert spread(NanoUSD(70), [-3 * hour, 10 * hour], price(10)) == [-30, 100]


def test_lines_that_are_not_the_capacity_are_refused() -> None:
    with pytest.raises(ValueError, match="not its capacity"):
        spread(NanoUSD(10), [DEVICE_NANOS_PER_HOUR], price(1))


@given(
    hourly=st.integers(0, 10**12),
    devices=st.integers(1, 64),
    before=st.integers(0, 10**9),
    spans=st.lists(st.integers(0, 10**9), min_size=1, max_size=5),
    data=st.data(),
)
def test_rated_intervals_sum_to_the_whole_and_their_lines_to_them(
    hourly: int, devices: int, before: int, spans: list[int], data: st.DataObject
) -> None:
    at, total = before, 0
    for span in spans:
        amount = interval_amount(
            price(hourly),
            devices=devices,
            priced_from=Micros(0),
            started=Micros(at),
            ended=Micros(at + span),
        )
        nanos = data.draw(st.lists(st.integers(-(10**12), 10**12), max_size=6))
        capacity = devices * span * NANOS_PER_MICRO
        lines = [*nanos, capacity - sum(nanos)]
        assert sum(spread(amount, lines, price(hourly))) == amount
        at, total = at + span, total + amount
    whole = interval_amount(
        price(hourly),
        devices=devices,
        priced_from=Micros(0),
        started=Micros(before),
        ended=Micros(at),
    )
    assert total == whole


def test_a_past_price_is_what_was_known_before_that_moment() -> None:
    versions = tuple(
        PriceVersion(
            device_kind="cpu-core",
            effective=Micros(0),
            recorded=Micros(recorded),
            basis=Rented(nano_usd_per_device_hour=NanoUSD(hourly)),
        )
        for recorded, hourly in ((10, 5), (20, 7))
    )
    past = PastPrices(PriceBook(versions=versions), "cpu-core")
    assert past.price(Micros(3), as_of=Micros(11)) == price(5)
    assert past.price(Micros(3), as_of=Micros(20)) == price(5)
    assert past.price(Micros(3), as_of=Micros(21)) == price(7)
    with pytest.raises(ValueError, match="no price"):
        past.price(Micros(3), as_of=Micros(10))


def test_only_what_was_charged_by_its_rates_is_charged_by_new_ones() -> None:
    def again(charged: int) -> int:
        return price_again(NanoUSD(charged), by_old_rates=NanoUSD(100), by_new_rates=NanoUSD(80))

    assert again(100) == 80
    assert again(0) == 0
    assert again(99) == 99
