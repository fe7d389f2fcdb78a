"""Folding: what is older than the retention becomes hourly rows, exactly, an hour a transaction.

Intervals and lines of an hour become rows of `hours` and `hour_lines`, one for each stretch at one
price; their corrections stay, summed by account, so that a re-rating can still be seen. Requests
and charges become counts and sums by account. A request folds once all its lines have. What is
folded has lost its ids: a retry of it would not be recognised, hence the shortest retention.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.line import Kind
from meted.domain.units import Micros
from meted.live.books.cells import HOUR_US
from meted.live.books.folding_postings import fold_charges, fold_requests, folding
from meted.live.books.opening import Target, opened
from meted.live.books.rerates import Corrections
from meted.live.store import StoreError
from meted.live.stores.database import Database, Row, Statements
from meted.live.stores.terms import Terms

SHORTEST_RETENTION_US = 24 * HOUR_US
"""Clients retry for minutes, spools are replayed within hours; a day is beyond both."""

_HOUR = (
    "session, hour, intervals, first, last, priced_from, started, ended, devices,"
    " nano_usd_per_device_hour, capacity_nanos, amount"
)
_INTERVAL = (
    "number, priced_from, started, ended, devices, nano_usd_per_device_hour, capacity_nanos, amount"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What was folded, or would be: whole hours of sessions, and the rows that became them."""

    hours: int = 0
    intervals: int = 0
    lines: int = 0
    requests: int = 0
    charges: int = 0

    def __add__(self, other: "Folded") -> "Folded":
        return Folded(
            hours=self.hours + other.hours,
            intervals=self.intervals + other.intervals,
            lines=self.lines + other.lines,
            requests=self.requests + other.requests,
            charges=self.charges + other.charges,
        )


def compact(target: Target, *, before: Micros, now: Micros, dry_run: bool = False) -> Folded:
    """Fold every whole hour that ended at or before `before`, as far as nothing in it is open.

    Each hour of a session is one transaction, so that this can be killed and run again at any
    moment, beside running houses. Bills and checks of whole hours stay the same, but for the names
    of requests. dry_run: only count. Raises ValueError if `before` is less than a day before `now`.
    """
    if before > now - SHORTEST_RETENTION_US:
        raise ValueError(
            f"cannot fold what is younger than {SHORTEST_RETENTION_US // HOUR_US} hours: a request "
            "that is sent again would be charged again; keep a day or more"
        )
    limit = before // HOUR_US
    total = Folded()
    with opened(target, write=not dry_run) as database:
        book = Terms(database).price_book()
        corrections = database.read(lambda db: Corrections(db, book))
        for session, resolved in database.read(_sessions):
            total += _fold_session(database, corrections, session, limit, resolved, dry_run=dry_run)
        if not dry_run and database.read(_has_old_requests):
            total += database.write(lambda db: _fold_old_requests(db, limit))
    return total


def _fold_session(
    database: Database,
    corrections: Corrections,
    session: int,
    limit: int,
    resolved: bool,
    *,
    dry_run: bool,
) -> Folded:
    total = Folded()
    for hour in database.read(lambda db: _whole_hours(db, session, limit, resolved)):
        fold = _Hour(corrections, session, hour, resolved)
        found = database.read(fold.count) if dry_run else database.write(fold.fold)
        if found is None:
            return total
        total += found
    if resolved and not dry_run and database.read(lambda db: _has_rest(db, session, limit)):
        total += database.write(lambda db: _fold_rest(db, session, limit))
    return total


def _sessions(db: Statements) -> list[tuple[int, bool]]:
    rows = db.rows("SELECT id, resolved FROM sessions ORDER BY id")
    return [(number, bool(resolved)) for number, resolved in rows]


def _whole_hours(db: Statements, session: int, limit: int, resolved: bool) -> list[int]:
    """Hours below the limit in which a session's intervals began and no more of them will."""
    hours = [
        hour
        for (hour,) in db.rows(
            f"SELECT DISTINCT started / {HOUR_US} FROM intervals WHERE session = ? ORDER BY 1",
            session,
        )
    ]
    return [hour for hour in hours if hour < limit and (resolved or hour < hours[-1])]


class _Hour:
    """One hour of one session."""

    def __init__(self, corrections: Corrections, session: int, hour: int, resolved: bool) -> None:
        self._corrections = corrections
        self._session = session
        self._hour = hour
        self._resolved = resolved

    def count(self, db: Statements) -> Folded | None:
        """What `fold` would do, but for requests and charges, which follow their lines."""
        intervals = self._intervals(db)
        if not intervals or not self._is_closed(db, intervals):
            return None
        place = (self._session, intervals[0][0], intervals[-1][0])
        lines = db.rows(f"SELECT count(*) FROM lines{_IN_PLACE}", *place)[0][0]
        return Folded(hours=1, intervals=len(intervals), lines=lines)

    def fold(self, db: Statements) -> Folded | None:
        """Fold it in this transaction; None if something in it is still open."""
        db.hold_postings()
        intervals = self._intervals(db)
        if not intervals or not self._is_closed(db, intervals):
            return None
        with folding(db):
            place = (self._session, intervals[0][0], intervals[-1][0])
            stretches = self._stretches(intervals)
            first_of = {one[0]: stretch[0][0] for stretch in stretches for one in stretch}
            lines = self._fold_lines(db, place, first_of)
            self._fold_corrections(db, place, first_of)
            gone = db.change(f"DELETE FROM intervals{_IN_PLACE}", *place)
            if gone != len(intervals):
                raise StoreError(
                    f"hour {self._hour} of session {self._session} changed while it was folded; "
                    "is another `meted books compact` running? Run it again"
                )
            db.insert("hours", _HOUR, [self._hour_row(stretch) for stretch in stretches])
            # What ended before the last of these intervals began has its last line in it.
            settled = f"session = ? AND ended <= ? AND arrived < {(self._hour + 1) * HOUR_US}"
            requests = fold_requests(db, settled, (self._session, intervals[-1][2]))
            past = f"session = ? AND at < {(self._hour + 1) * HOUR_US}"
            charges = fold_charges(db, past, (self._session,))
        return Folded(
            hours=1, intervals=len(intervals), lines=lines, requests=requests, charges=charges
        )

    def _intervals(self, db: Statements) -> list[Row]:
        return db.rows(
            f"SELECT {_INTERVAL} FROM intervals WHERE session = ? AND started >= ? AND started < ?"
            " ORDER BY number",
            *(self._session, self._hour * HOUR_US, (self._hour + 1) * HOUR_US),
        )

    def _is_closed(self, db: Statements, intervals: Sequence[Row]) -> bool:
        """Whether nobody needs to tell its requests apart any more.

        After a crash the house looks for requests that did not end; what else waits, steps in
        progress and training since a checkpoint, it finds in folded hours too. A session that is
        resolved has none.
        """
        if self._resolved:
            return True
        place = (self._session, intervals[0][0], intervals[-1][0])
        return not db.rows(
            "SELECT 1 FROM lines JOIN accounts ON accounts.id = lines.account"
            f"{_IN_PLACE} AND kind = '{Kind.REQUEST}' AND request IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.id = lines.request) LIMIT 1",
            *place,
        )

    def _stretches(self, intervals: Sequence[Row]) -> list[list[Row]]:
        """Intervals in a row at one price, and re-rated to one price."""
        stretches: list[list[Row]] = []
        terms: tuple[object, ...] = ()
        for one in intervals:
            number, priced_from, started, _, devices, price, _, _ = one
            rerated = (
                self._corrections.rerate(self._session, number),
                self._corrections.price(self._session, number, started),
            )
            these = (priced_from, devices, price, rerated)
            if not stretches or these != terms:
                stretches.append([])
            terms = these
            stretches[-1].append(one)
        return stretches

    def _hour_row(self, stretch: Sequence[Row]) -> Row:
        number, priced_from, started, _, devices, price, _, _ = stretch[0]
        last, _, _, ended, *_ = stretch[-1]
        return (
            *(self._session, self._hour, len(stretch), number, last),
            *(priced_from, started, ended, devices, price),
            *(sum(one[6] for one in stretch), sum(one[7] for one in stretch)),
        )

    def _fold_lines(
        self, db: Statements, place: tuple[int, int, int], first_of: dict[int, int]
    ) -> int:
        sums: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        gone = db.rows(
            f"DELETE FROM lines{_IN_PLACE} RETURNING number, account, device_nanos, amount", *place
        )
        for number, account, nanos, amount in gone:
            held = sums[first_of[number], account]
            held[0] += nanos
            held[1] += amount
        db.insert(
            "hour_lines",
            "session, first, account, device_nanos, amount",
            [
                (self._session, first, account, nanos, amount)
                for (first, account), (nanos, amount) in sorted(sums.items())
                if nanos or amount
            ],
        )
        return len(gone)

    def _fold_corrections(
        self, db: Statements, place: tuple[int, int, int], first_of: dict[int, int]
    ) -> None:
        sums: dict[tuple[int, int, int], int] = defaultdict(int)
        for rerate, number, account, amount in db.rows(
            f"DELETE FROM corrections{_IN_PLACE} RETURNING rerate, number, account, amount", *place
        ):
            sums[rerate, first_of[number], account] += amount
        db.insert(
            "corrections",
            "rerate, session, number, account, request, amount",
            [
                (rerate, self._session, first, account, None, amount)
                for (rerate, first, account), amount in sorted(sums.items())
                if amount
            ],
        )


_IN_PLACE = " WHERE session = ? AND number BETWEEN ? AND ?"


def _has_rest(db: Statements, session: int, limit: int) -> bool:
    """Whether a session of which every interval is folded has old requests or charges left."""
    if db.rows("SELECT 1 FROM intervals WHERE session = ? LIMIT 1", session):
        return False
    return any(
        db.rows(
            f"SELECT 1 FROM {table} WHERE session = ? AND {at} < ? LIMIT 1",
            *(session, limit * HOUR_US),
        )
        for table, at in (("requests", "arrived"), ("charges", "at"))
    )


def _fold_rest(db: Statements, session: int, limit: int) -> Folded:
    """Fold what `_has_rest` found. A session that ended gets no more of it."""
    db.hold_postings()
    with folding(db):
        moment = limit * HOUR_US
        requests = fold_requests(db, "session = ? AND arrived < ?", (session, moment))
        charges = fold_charges(db, "session = ? AND at < ?", (session, moment))
    return Folded(requests=requests, charges=charges)


def _has_old_requests(db: Statements) -> bool:
    return bool(db.rows("SELECT 1 FROM requests WHERE session IS NULL LIMIT 1"))


def _fold_old_requests(db: Statements, limit: int) -> Folded:
    """Requests from before requests knew their session: an interval lasts an hour at most, so that
    all their lines are folded if they ended more than an hour before the first that is not."""
    db.hold_postings()
    moment = limit * HOUR_US
    first = db.rows("SELECT min(started) FROM intervals")[0][0]
    ended = moment if first is None else min(moment, first - HOUR_US)
    with folding(db):
        requests = fold_requests(
            db, "session IS NULL AND arrived < ? AND ended < ?", (moment, ended)
        )
    return Folded(requests=requests)
