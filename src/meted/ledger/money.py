"""Device time to money: the one place where an amount is rounded."""

from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_SECOND, SECONDS_PER_HOUR, DeviceNanos, NanoUSD

DEVICE_NANOS_PER_HOUR = SECONDS_PER_HOUR * NANOS_PER_SECOND


def amount(used: DeviceNanos, price: Price) -> NanoUSD:
    """Cost of device time, rounded down to a whole nano-USD.

    Callers that book in parts book `amount(after) - amount(before)` of cumulative time, so that
    the parts add up to the amount of the whole.
    """
    return NanoUSD(used * price.nano_usd_per_device_hour // DEVICE_NANOS_PER_HOUR)
