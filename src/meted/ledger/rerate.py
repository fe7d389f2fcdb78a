"""Re-rating a past period: what an interval costs at another price, line by line."""

from collections.abc import Sequence

from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_MICRO, DeviceNanos, Micros, NanoUSD
from meted.ledger.money import DEVICE_NANOS_PER_HOUR, amount
from meted.ledger.price_book import PriceBook


def interval_amount(
    price: Price, *, devices: int, priced_from: Micros, started: Micros, ended: Micros
) -> NanoUSD:
    """What the capacity of an interval costs: its cost since priced_from to the end, less that to
    its start, each rounded down, so that intervals in a row lose nothing at their seams."""
    before, after = (
        amount(DeviceNanos((moment - priced_from) * devices * NANOS_PER_MICRO), price)
        for moment in (started, ended)
    )
    return NanoUSD(after - before)


def spread(total: NanoUSD, nanos: Sequence[int], price: Price) -> list[NanoUSD]:
    """A re-rated interval's amount on its lines: each line's time at this price, rounded down, and
    what is left one by one to the largest fractions, first come first on a tie.

    Lines of negative time, which correct earlier ones, are rounded down too. Sums to `total`
    exactly where the lines' time is the interval's and `total` is its cost, rounded either way.
    Raises ValueError where so much more or less cannot come from rounding.
    """
    hourly = price.nano_usd_per_device_hour
    floors, fractions = list[int](), list[int]()
    for used in nanos:
        floor, fraction = divmod(used * hourly, DEVICE_NANOS_PER_HOUR)
        floors.append(floor)
        fractions.append(fraction)
    left = total - sum(floors)
    if not 0 <= left <= len(floors):
        raise ValueError(
            f"lines cost {sum(floors)} nano-USD at {hourly} per device-hour, expected up to "
            f"{len(floors)} less than the interval's {total}; its lines are not its capacity"
        )
    for index in sorted(range(len(floors)), key=lambda i: (-fractions[i], i))[:left]:
        floors[index] += 1
    return [NanoUSD(part) for part in floors]


class PastPrices:
    """What the price book said at earlier moments about prices."""

    def __init__(self, book: PriceBook, device_kind: str) -> None:
        self._book = book
        self._kind = device_kind
        self._books: dict[Micros, PriceBook] = {}

    def price(self, moment: Micros, *, as_of: Micros) -> Price:
        """The price at a moment by what was recorded before `as_of`.

        Raises ValueError if the book had none.
        """
        book = self._books.get(as_of)
        if book is None:
            known = tuple(one for one in self._book.versions if one.recorded < as_of)
            book = self._books[as_of] = PriceBook(versions=known)
        return book.at(self._kind, moment)


def price_again(charged: NanoUSD, *, by_old_rates: NanoUSD, by_new_rates: NanoUSD) -> NanoUSD:
    """What a posting is charged once rates were changed for its time.

    What was not charged by its rates (waived, because the request failed or its money was gone)
    stays as it was.
    """
    return by_new_rates if charged == by_old_rates else charged
