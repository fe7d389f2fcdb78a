"""Re-ratings of cost as the books hold them: what each corrected interval costs now."""

from dataclasses import dataclass

from meted.domain.pool import Device, Price
from meted.domain.units import Micros
from meted.ledger.price_book import PriceBook
from meted.ledger.rerate import PastPrices
from meted.live.books.cells import HOUR_US
from meted.live.stores.database import Statements, whole

DEVICE_KIND = Device(index=0).kind
"""All devices of a pool are of one kind, and an interval does not say which."""


def joined_to_hour(hour: int) -> str:
    """Joins corrections to what started in an hour, raw and folded."""
    begins, ends = hour * HOUR_US, (hour + 1) * HOUR_US
    return (
        " JOIN (SELECT session, number FROM intervals"
        f" WHERE started >= {begins} AND started < {ends}"
        f" UNION ALL SELECT session, first FROM hours WHERE hour = {hour}) AS units"
        " ON units.session = corrections.session AND units.number = corrections.number"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """All corrections of an interval, and the last re-rating among them."""

    rerate: int
    at: Micros
    amount: int


class Corrections:
    """Which intervals were re-rated, when and to which price. An interval that a re-rating left
    as it was, because its amounts came out the same, counts as not re-rated by it."""

    def __init__(
        self,
        db: Statements,
        book: PriceBook,
        device_kind: str = DEVICE_KIND,
        *,
        hour: int | None = None,
    ) -> None:
        """hour: only intervals that started in it."""
        chosen = "" if hour is None else joined_to_hour(hour)
        self._past = PastPrices(book, device_kind)
        self._at = {number: Micros(at) for number, at in db.rows("SELECT id, at FROM rerates")}
        self.by_interval = {
            (session, number): Corrected(rerate=last, at=self._at[last], amount=whole(total))
            for session, number, last, total in db.rows(
                f"SELECT corrections.session, corrections.number, max(rerate),"
                f" {db.exact_sum('corrections.amount')} FROM corrections{chosen}"
                " GROUP BY corrections.session, corrections.number"
            )
        }

    def price(self, session: int, number: int, started: int) -> Price | None:
        """The price to which an interval was re-rated last; None if it never was.

        Raises ValueError if the book had no price then.
        """
        corrected = self.by_interval.get((session, number))
        if corrected is None:
            return None
        return self._past.price(Micros(started), as_of=corrected.at)

    def rerate(self, session: int, number: int) -> int | None:
        """The last re-rating of an interval."""
        corrected = self.by_interval.get((session, number))
        return None if corrected is None else corrected.rerate
