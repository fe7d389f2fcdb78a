"""Laws of intervals and folded hours: time, money, numbering and what a re-rating made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge

from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_MICRO, Micros, NanoUSD
from meted.ledger.price_book import PriceBook
from meted.ledger.rerate import interval_amount
from meted.live.books.laws import Law, LawBook
from meted.live.books.rerates import Corrections
from meted.live.stores.database import Statements, whole

TIME = "an interval's lines sum to its devices x time"
MONEY = "an interval's lines sum to its amount, which is its time at its price"
ORDER = "a session's intervals are numbered from 0 without a gap in number or time"
RERATED = "lines and corrections of a re-rated interval sum to its cost at the new price"


@dataclass(frozen=True, slots=True)
class _Unit:
    """A closed interval, or intervals of an hour that are folded into one."""

    session: int
    first: int
    last: int
    priced_from: int
    started: int
    ended: int
    devices: int
    price: int
    capacity: int
    amount: int
    lines_nanos: int
    lines_amount: int
    folded: bool


class IntervalCheck:
    """Goes through all units in their order. intervals counts folded ones, too."""

    def __init__(self, db: Statements, book: PriceBook) -> None:
        self.sessions = self.intervals = self.hours = 0
        self.capacity = self.amount = self.lines_nanos = self.lines_amount = 0
        self._db = db
        self._names: dict[int, str] = {
            number: str(name) for number, name in db.rows("SELECT id, name FROM sessions")
        }
        self._corrections = Corrections(db, book)
        self._unmatched = set(self._corrections.by_interval)
        self._laws = LawBook(ORDER, TIME, MONEY, RERATED)

    @property
    def laws(self) -> tuple[Law, ...]:
        return self._laws.laws

    def run(self) -> None:
        """Test all laws on all units."""
        last: _Unit | None = None
        for unit in merge(
            _units(self._db, folded=False),
            _units(self._db, folded=True),
            key=lambda one: (one.session, one.first),
        ):
            if last is not None and last.session != unit.session:
                last = None
            self._take(unit, last)
            last = unit
        for session, number in sorted(self._unmatched):
            amount = self._corrections.by_interval[session, number].amount
            self._laws.hold(
                RERATED,
                broken=f"interval {number} of session {self._names.get(session)} is not there, but "
                f"has corrections of {amount} nano-USD",
            )

    def _take(self, unit: _Unit, last: _Unit | None) -> None:
        self.sessions += last is None
        self.hours += unit.folded
        self.intervals += unit.last - unit.first + 1
        self.capacity += unit.capacity
        self.amount += unit.amount
        self.lines_nanos += unit.lines_nanos
        self.lines_amount += unit.lines_amount
        bought = unit.devices * (unit.ended - unit.started) * NANOS_PER_MICRO
        self._hold(
            ORDER,
            unit,
            ("is numbered", unit.first, "its place is", last.last + 1 if last else 0),
            ("starts at (us)", unit.started, "the last one ended at", last and last.ended),
            ("has devices", unit.devices, "the last one had", last and last.devices),
        )
        self._hold(
            TIME,
            unit,
            ("has a capacity of (ns)", unit.capacity, "devices x time is", bought),
            ("has lines of (ns)", unit.lines_nanos, "its capacity is", unit.capacity),
        )
        self._hold(
            MONEY,
            unit,
            _priced(unit, last),
            ("has lines of (nano-USD)", unit.lines_amount, "its amount is", unit.amount),
            ("has an amount of (nano-USD)", unit.amount, "capacity x price is", _owed(unit)),
        )
        self._take_corrections(unit)

    def _take_corrections(self, unit: _Unit) -> None:
        place = (unit.session, unit.first)
        if place not in self._unmatched:
            return
        self._unmatched.remove(place)
        try:
            price = self._corrections.price(*place, unit.started)
        except ValueError as error:
            broken = f"{self._where(unit)} was re-rated without a price: {error}"
            self._laws.hold(RERATED, broken=broken)
            return
        self._hold(
            RERATED,
            unit,
            (
                "has lines and corrections of (nano-USD)",
                unit.lines_amount + self._corrections.by_interval[place].amount,
                "its cost at the price to which it was re-rated is",
                _owed(unit, price),
            ),
        )

    def _hold(self, law: str, unit: _Unit, *facts: tuple[str, int, str, int | None] | None) -> None:
        for fact in facts:
            if fact is None:
                continue
            has, found, must_be, expected = fact
            if expected is not None and found != expected:
                broken = f"{self._where(unit)} {has} {found}, but {must_be} {expected}"
                self._laws.hold(law, broken=broken)
                return
        self._laws.hold(law)

    def _where(self, unit: _Unit) -> str:
        session = self._names.get(unit.session)
        if unit.folded:
            return f"folded intervals {unit.first} to {unit.last} of session {session}"
        return f"interval {unit.first} of session {session}"


def _owed(unit: _Unit, price: Price | None = None) -> int:
    own = Price(nano_usd_per_device_hour=NanoUSD(unit.price))
    return interval_amount(
        price or own,
        devices=unit.devices,
        priced_from=Micros(unit.priced_from),
        started=Micros(unit.started),
        ended=Micros(unit.ended),
    )


def _priced(unit: _Unit, last: _Unit | None) -> tuple[str, int, str, int] | None:
    """A price holds from the session's start, or from where an interval began to have another."""
    has = "has a price since (us)"
    if last is None:
        return has, unit.priced_from, "its session started at", unit.started
    if last.price != unit.price:
        return has, unit.priced_from, "it is the first at this price and started at", unit.started
    if unit.priced_from == unit.started and not unit.folded:
        # The price was set anew to what it was, or to another and back, between two closes.
        return None
    return has, unit.priced_from, "the last one had it since", last.priced_from


def _units(db: Statements, *, folded: bool) -> Iterator[_Unit]:
    units, lines = ("hours", "hour_lines") if folded else ("intervals", "lines")
    first, last = ("first", "last") if folded else ("number", "number")
    for *facts, nanos, amount in db.stream(
        f"SELECT {units}.session, {units}.{first}, {units}.{last}, priced_from, started, ended,"
        f" devices, nano_usd_per_device_hour, capacity_nanos, {units}.amount,"
        f" {db.exact_sum(f'{lines}.device_nanos')}, {db.exact_sum(f'{lines}.amount')}"
        f" FROM {units} LEFT JOIN {lines} ON {lines}.session = {units}.session"
        f" AND {lines}.{first} = {units}.{first}"
        f" GROUP BY {units}.session, {units}.{first} ORDER BY {units}.session, {units}.{first}"
    ):
        yield _Unit(*facts, lines_nanos=whole(nanos), lines_amount=whole(amount), folded=folded)
