"""Re-rating a past period: corrections beside what is there, an hour a transaction, never edits."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meted.domain.pool import Price
from meted.domain.units import Micros, NanoUSD
from meted.ledger.price_book import PriceBook
from meted.ledger.rerate import interval_amount, spread
from meted.live.books.cells import HOUR_US, Scope, cut_hours
from meted.live.books.opening import Target, opened
from meted.live.books.rerates import DEVICE_KIND, Corrections, joined_to_hour
from meted.live.store import StoreError
from meted.live.stores.database import Row, Statements
from meted.live.stores.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerated:
    """What a re-rating changed: intervals (or requests and charges), corrections, their sum.

    kept: postings that were not charged by their rates, e.g. because they failed.
    """

    changed: int = 0
    corrections: int = 0
    amount: NanoUSD = NanoUSD(0)
    kept: int = 0

    def __add__(self, other: "Rerated") -> "Rerated":
        return Rerated(
            changed=self.changed + other.changed,
            corrections=self.corrections + other.corrections,
            amount=NanoUSD(self.amount + other.amount),
            kept=self.kept + other.kept,
        )


def rerate_costs(
    target: Target,
    *,
    from_us: Micros,
    to_us: Micros,
    reason: str,
    now: Micros,
    device_kind: str = DEVICE_KIND,
) -> Rerated:
    """Correct the cost of every closed interval that started in [from_us, to_us) and for whose
    start the price book now says another price. Running it twice adds nothing.

    Raises StoreError where the book has no price, or a folded hour is in the period only in part.
    """
    scope = Scope(from_us=from_us, to_us=to_us)
    with opened(target, write=True) as database:
        book = Terms(database).price_book()
        at = after_all(now, (one.recorded for one in book.versions))
        database.read(lambda db: refuse_cut(db, scope))
        total = Rerated()
        for hour in database.read(lambda db: hours_of(db, scope, "intervals", "started", "hours")):
            work = _CostHour(book, device_kind, scope, hour, at=at, reason=reason)
            total += database.write(work.run)
        return total


def hours_of(db: Statements, scope: Scope, table: str, column: str, folded: str) -> list[int]:
    """Hours with entries of a table, raw or folded, within the scope."""
    raw, hours = scope.moments(column), scope.hours("hour")
    found = db.rows(
        f"SELECT {column} / {HOUR_US} AS hour FROM {table}{raw.on('')}"
        f" UNION SELECT hour FROM {folded}{hours.on('')} ORDER BY 1",
        *(*raw.values, *hours.values),
    )
    return [hour for (hour,) in found]


def refuse_cut(db: Statements, scope: Scope) -> None:
    cut = cut_hours(db, scope)
    if cut:
        raise StoreError(
            f"the period begins or ends within hour {cut[0]} since 1970, which is folded; choose "
            "whole hours"
        )


def after_all(now: Micros, recorded: Iterable[Micros]) -> Micros:
    """Now, at which every version of a book is known. Raises StoreError where the clock is behind
    one of them: later nobody could tell which of them a re-rating knew."""
    last = max(recorded, default=Micros(0))
    if now <= last:
        raise StoreError(
            f"it is {now} by this machine's clock, but the book was last written at {last}; set "
            "the clock right, or wait"
        )
    return now


def within_hour(scope: Scope, hour: int) -> Scope:
    """The part of a scope that is in an hour."""
    begins, ends = hour * HOUR_US, (hour + 1) * HOUR_US
    return Scope(
        from_us=Micros(begins if scope.from_us is None else max(scope.from_us, begins)),
        to_us=Micros(ends if scope.to_us is None else min(scope.to_us, ends)),
    )


def enter_rerate(db: Statements, at: Micros, part: Scope, reason: str) -> int:
    """A new re-rating of a part of time, with its number."""
    return db.rows(
        "INSERT INTO rerates (at, started, ended, reason) VALUES (?, ?, ?, ?) RETURNING id",
        *(at, part.from_us, part.to_us, reason),
    )[0][0]


_FACTS = "session, {first}, priced_from, started, ended, devices, nano_usd_per_device_hour"


class _CostHour:
    """The intervals that started in one hour, or what they are folded into."""

    def __init__(
        self,
        book: PriceBook,
        device_kind: str,
        scope: Scope,
        hour: int,
        *,
        at: Micros,
        reason: str,
    ) -> None:
        self._book = book
        self._kind = device_kind
        self._scope = scope
        self._hour = hour
        self._at = at
        self._reason = reason

    def run(self, db: Statements) -> Rerated:
        corrections = _HourCorrections(db, self._book, self._kind, self._hour)
        rows: list[Row] = []
        changed = 0
        for unit, lines in self._units(db):
            new = self._corrected(unit, lines, corrections)
            changed += bool(new)
            rows += new
        if rows:
            part = within_hour(self._scope, self._hour)
            rerate = enter_rerate(db, self._at, part, self._reason)
            db.insert(
                "corrections",
                "rerate, session, number, account, request, amount",
                [(rerate, *row) for row in rows],
            )
        return Rerated(
            changed=changed,
            corrections=len(rows),
            amount=NanoUSD(sum(row[-1] for row in rows)),
        )

    def _units(
        self, db: Statements
    ) -> Iterator[tuple[Row, dict[tuple[int, str | None], list[int]]]]:
        """Intervals and folded stretches with the time and amount of each account and request."""
        raw = within_hour(self._scope, self._hour).moments("started")
        for table, lines, first, request, where, values in (
            ("intervals", "lines", "number", "request", raw.on(""), raw.values),
            ("hours", "hour_lines", "first", "null", " WHERE hour = ?", (self._hour,)),
        ):
            held: dict[tuple[int, int], dict[tuple[int, str | None], list[int]]] = {}
            for session, number, account, of, nanos, amount in db.rows(
                f"SELECT {lines}.session, {lines}.{first}, account, {request}, device_nanos,"
                f" {lines}.amount FROM {table} JOIN {lines} USING (session, {first}){where}"
                f" ORDER BY {lines}.session, {lines}.{first}, account",
                *values,
            ):
                place = held.setdefault((session, number), {})
                sums = place.setdefault((account, of), [0, 0])
                sums[0] += nanos
                sums[1] += amount
            facts = _FACTS.format(first=first)
            for unit in db.rows(f"SELECT {facts} FROM {table}{where} ORDER BY 1, 2", *values):
                yield unit, held.get((unit[0], unit[1]), {})

    def _corrected(
        self,
        unit: Row,
        lines: dict[tuple[int, str | None], list[int]],
        corrections: "_HourCorrections",
    ) -> list[Row]:
        session, number, priced_from, started, ended, devices, hourly = unit
        own = Price(nano_usd_per_device_hour=NanoUSD(hourly))
        try:
            price = self._book.at(self._kind, Micros(started))
            in_force = corrections.price(session, number, started) or own
        except ValueError as error:
            raise StoreError(f"cannot re-rate hour {self._hour} since 1970: {error}") from error
        if price == in_force:
            return []
        before = corrections.of(session, number)
        if price == own:
            new = [amount for _, amount in lines.values()]
        else:
            total = interval_amount(
                price,
                devices=devices,
                priced_from=Micros(priced_from),
                started=Micros(started),
                ended=Micros(ended),
            )
            new = spread(total, [nanos for nanos, _ in lines.values()], price)
        # A line whose time and amount came to nothing is not folded, but may have a correction of
        # what rounding left it; that is taken back.
        changes = [
            *(
                (place, after - amount - before.get(place, 0))
                for (place, (_, amount)), after in zip(lines.items(), new, strict=True)
            ),
            *((place, -amount) for place, amount in before.items() if place not in lines),
        ]
        return [(session, number, *place, change) for place, change in changes if change]


class _HourCorrections:
    """The corrections of intervals of an hour so far, by account and request."""

    def __init__(self, db: Statements, book: PriceBook, kind: str, hour: int) -> None:
        self._all = Corrections(db, book, kind, hour=hour)
        self._held: dict[tuple[int, int], dict[tuple[int, str | None], int]] = defaultdict(dict)
        for session, number, account, request, amount in db.rows(
            "SELECT corrections.session, corrections.number, account, request, corrections.amount"
            f" FROM corrections{joined_to_hour(hour)}"
        ):
            held = self._held[session, number]
            held[account, request] = held.get((account, request), 0) + amount

    def price(self, session: int, number: int, started: int) -> Price | None:
        return self._all.price(session, number, started)

    def of(self, session: int, number: int) -> dict[tuple[int, str | None], int]:
        return self._held.get((session, number), {})
