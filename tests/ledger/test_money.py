"""Amounts against figures worked out by hand."""

import pytest

from meted.domain.pool import Price
from meted.domain.units import DeviceNanos, NanoUSD
from meted.ledger.money import amount

CENTS_2 = Price(nano_usd_per_device_hour=NanoUSD(20_000_000))


@pytest.mark.parametrize(
    ("nanos", "expected"),
    [(0, 0), (179_999, 0), (180_000, 1), (3_600_000_000_000, 20_000_000), (1_735_525_592, 9_641)],
)
def test_an_amount_is_time_by_price_rounded_down(nanos: int, expected: int) -> None:
    assert amount(DeviceNanos(nanos), CENTS_2) == expected
