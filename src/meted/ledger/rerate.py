"""Re-rating a past period: what an interval costs at another price, line by line."""

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerate:
    """Intervals that start in [started, ended) were re-rated by the price book as of `at`."""

    id: int
    at: Micros
    started: Micros
    ended: Micros


class Coverage:
    """Which re-rating of an interval was the last one, and at which price."""

    def __init__(self, rerates: Iterable[Rerate], book: PriceBook, device_kind: str) -> None:
        self._book = book
        self._kind = device_kind
        self._books: dict[Micros, PriceBook] = {}
        self._moments, self._last = _segments(rerates)

    def last(self, started: Micros) -> Rerate | None:
        """The last re-rating of an interval that started then."""
        index = bisect_right(self._moments, started)
        return self._last[index - 1] if index else None

    def price(self, started: Micros) -> Price | None:
        """The price that the last re-rating gave to an interval; None where there was none.

        Raises ValueError if the book had no price then.
        """
        rerate = self.last(started)
        if rerate is None:
            return None
        return self._as_of(rerate.at).at(self._kind, started)

    def _as_of(self, at: Micros) -> PriceBook:
        book = self._books.get(at)
        if book is None:
            known = tuple(one for one in self._book.versions if one.recorded <= at)
            book = self._books[at] = PriceBook(versions=known)
        return book


def _segments(rerates: Iterable[Rerate]) -> tuple[list[Micros], list[Rerate | None]]:
    """Moments at which the last re-rating changes, and which one it is from each on."""
    begins = sorted(rerates, key=lambda one: one.started)
    moments = sorted({moment for one in begins for moment in (one.started, one.ended)})
    open_ones: list[tuple[int, Micros, Rerate]] = []
    last: list[Rerate | None] = []
    index = 0
    for moment in moments:
        while index < len(begins) and begins[index].started <= moment:
            one = begins[index]
            heapq.heappush(open_ones, (-one.id, one.ended, one))
            index += 1
        while open_ones and open_ones[0][1] <= moment:
            heapq.heappop(open_ones)
        last.append(open_ones[0][2] if open_ones else None)
    return moments, last
