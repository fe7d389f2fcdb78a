"""Dollars as people and programs write them, exact to the nano-dollar in both directions."""

import re
from functools import lru_cache
from typing import Any

from meted.domain.units import NANOS_PER_SECOND, NanoUSD

NANO_PLACES = 9
MICRO_PLACES = 6
MOST_DIGITS = 9
"""Whole dollars of an amount; what is beyond does not fit the 64 bits of a database."""

_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


def exact_dollars(text: Any, what: str, *, places: int = NANO_PLACES) -> int:
    """A decimal string of dollars as an integer of its last place: nano-USD for nine places.

    Never by way of a float, which cannot say a tenth. Raises ValueError, with `what` in the
    sentence, for all but digits with at most `places` decimals.
    """
    found = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is None or len(found[1].lstrip("0")) > MOST_DIGITS or len(found[2] or "") > places:
        raise ValueError(
            f"{what} is {shortened(text)}, expected dollars as a decimal string, 0 or more and "
            f"below {10**MOST_DIGITS}, with at most {places} decimals, e.g. '12.50'"
        )
    return int(found[1]) * 10**places + int((found[2] or "").ljust(places, "0"))


def nano_dollars(text: Any, what: str) -> NanoUSD:
    """A decimal string of dollars as nano-USD. Raises ValueError as `exact_dollars` does."""
    return NanoUSD(exact_dollars(text, what))


def decimal(billionths: int) -> str:
    """Billionths as an exact decimal number with nine places."""
    if billionths < 0:
        return f"-{decimal(-billionths)}"
    whole, nanos = divmod(billionths, NANOS_PER_SECOND)
    return f"{whole}.{nanos:09d}"


@lru_cache(maxsize=1_024)
def usd(amount: int) -> str:
    """Nano-USD as an exact decimal of dollars with nine places, e.g. 0.000001234."""
    return decimal(amount)


def shortened(value: Any, most: int = 80) -> str:
    """A value for a sentence, in quotes if it is text, cut where it is long."""
    try:
        shown = repr(value[: most + 1]) if isinstance(value, str) else repr(value)
    except ValueError:
        # Python writes no integer of thousands of digits.
        return "a number of too many digits"
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
