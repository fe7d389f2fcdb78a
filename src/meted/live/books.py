"""Questions to the books: who spent what, and does every interval add up. Reads only."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from meted.domain.line import Kind
from meted.domain.units import (
    MICROS_PER_SECOND,
    NANOS_PER_MICRO,
    NANOS_PER_SECOND,
    SECONDS_PER_HOUR,
    DeviceNanos,
    Micros,
    NanoUSD,
)
from meted.ledger.money import DEVICE_NANOS_PER_HOUR
from meted.live.sqlite_file import explained, read_books

_HOUR_US = SECONDS_PER_HOUR * MICROS_PER_SECOND
_HALF = NANOS_PER_SECOND


class Dimension(StrEnum):
    """What a bill can be broken down by."""

    KIND = "kind"
    TENANT = "tenant"
    DEPLOYMENT = "deployment"
    JOB = "job"
    REQUEST = "request"
    HOUR = "hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRow:
    """What one key used and cost. A part of the key is None where it does not apply."""

    key: tuple[str | None, ...]
    device_nanos: DeviceNanos
    nano_usd: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Rows that sum to the totals, dearest first, or by time if the first dimension is the hour.

    started, ended: what the counted intervals span, in wall-clock micros; None without any.
    """

    by: tuple[Dimension, ...]
    rows: tuple[BillRow, ...]
    intervals: int
    started: Micros | None
    ended: Micros | None
    device_nanos: DeviceNanos
    nano_usd: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Whether the books add up. fault: the first thing that does not, with both numbers.

    waiting: requests that ended so lately that not all of their time need be in closed intervals.
    """

    sessions: int
    intervals: int
    requests: int
    waiting: int
    capacity_nanos: DeviceNanos
    lines_nanos: DeviceNanos
    capacity_nano_usd: NanoUSD
    lines_nano_usd: NanoUSD
    fault: str | None

    @property
    def balanced(self) -> bool:
        return self.fault is None


def bill(
    path: Path,
    *,
    by: Sequence[Dimension] = (Dimension.KIND,),
    from_us: Micros | None = None,
    to_us: Micros | None = None,
) -> Bill:
    """The closed intervals that started in [from_us, to_us), broken down by one or more dimensions.

    Raises StoreError if the books cannot be read.
    """
    if not by or len(set(by)) != len(by):
        raise ValueError(f"a bill by {list(by)} is not one; expected different dimensions")
    keys = ", ".join(_COLUMNS[dimension] for dimension in by)
    places = ", ".join(str(place + 1) for place in range(len(by)))
    where, limits = _where(from_us, to_us)
    with explained(path), closing(read_books(path)) as db:
        db.execute("BEGIN")
        count, started, ended = db.execute(
            f"SELECT count(*), min(started), max(ended) FROM intervals {where}", limits
        ).fetchone()
        rows = [
            BillRow(
                key=tuple(_key(part, value) for part, value in zip(by, key, strict=True)),
                device_nanos=DeviceNanos(_whole(nanos, nanos_rest)),
                nano_usd=NanoUSD(_whole(amount, amount_rest)),
            )
            for *key, nanos, nanos_rest, amount, amount_rest in db.execute(
                f"SELECT {keys}, {_exact('lines.device_nanos')}, {_exact('lines.amount')}"
                f" FROM intervals JOIN lines USING (session, number) {where}"
                f" GROUP BY {places} ORDER BY {places}",
                limits,
            )
        ]
    if by[0] is not Dimension.HOUR:
        rows.sort(key=lambda row: (-row.nano_usd, -row.device_nanos))
    return Bill(
        by=tuple(by),
        rows=tuple(row for row in rows if row.device_nanos or row.nano_usd),
        intervals=count,
        started=started,
        ended=ended,
        device_nanos=DeviceNanos(sum(row.device_nanos for row in rows)),
        nano_usd=NanoUSD(sum(row.nano_usd for row in rows)),
    )


def check(path: Path) -> CheckReport:
    """Whether what must hold does, for every closed interval and every request that ended.

    - An interval's lines sum to its capacity, and that is devices x time.
    - Its lines' amounts sum to its amount.
    - A session's intervals are numbered from 0 and follow each other without a gap.
    - The amounts of a session up to any interval are its capacity so far x price, rounded down
      once, so that no nano-dollar is made or lost at the seams.
    - A request's lines sum to what its client was told. Clocks are read one after the other, so
      that the last nanoseconds may be posted one interval late: that interval must have closed.

    Raises StoreError if the books cannot be read.
    """
    with explained(path), closing(read_books(path)) as db:
        db.execute("BEGIN")
        books = _Balance()
        for *facts, nanos, nanos_rest, amount, amount_rest in db.execute(_INTERVALS):
            books.take(
                _ClosedInterval(
                    *facts,
                    lines_nanos=_whole(nanos, nanos_rest),
                    lines_amount=_whole(amount, amount_rest),
                )
            )
        requests, waiting, request_fault = _check_requests(db)
    return CheckReport(
        sessions=books.sessions,
        intervals=books.intervals,
        requests=requests,
        waiting=waiting,
        capacity_nanos=DeviceNanos(books.capacity),
        lines_nanos=DeviceNanos(books.lines_nanos),
        capacity_nano_usd=NanoUSD(books.amount),
        lines_nano_usd=NanoUSD(books.lines_amount),
        fault=books.fault or request_fault,
    )


def _exact(column: str) -> str:
    """A sum in two halves, because one 64-bit sum would overflow after 292 device-years."""
    return f"sum({column} / {_HALF}), sum({column} % {_HALF})"


def _whole(high: int | None, low: int | None) -> int:
    return (high or 0) * _HALF + (low or 0)


_COLUMNS = {
    Dimension.KIND: "lines.kind",
    Dimension.TENANT: "lines.tenant",
    Dimension.DEPLOYMENT: "lines.deployment",
    Dimension.JOB: "lines.job",
    Dimension.REQUEST: "lines.request",
    Dimension.HOUR: f"intervals.started / {_HOUR_US}",
}

_INTERVALS = f"""
    SELECT sessions.name, intervals.number, started, ended, devices, nano_usd_per_device_hour,
        capacity_nanos, intervals.amount,
        {_exact("lines.device_nanos")}, {_exact("lines.amount")}
    FROM intervals JOIN sessions ON sessions.id = intervals.session
    LEFT JOIN lines ON lines.session = intervals.session AND lines.number = intervals.number
    GROUP BY intervals.session, intervals.number
    ORDER BY intervals.session, intervals.number
"""

_REQUESTS = f"""
    SELECT id, max(ended), sum(told_nanos), sum(told_cost), sum(nanos), sum(amount) FROM (
        SELECT id, ended, device_nanos AS told_nanos, cost AS told_cost, 0 AS nanos, 0 AS amount
        FROM requests
        UNION ALL
        SELECT request, null, 0, 0, device_nanos, amount
        FROM lines WHERE kind = '{Kind.REQUEST}' AND request IS NOT NULL
    ) GROUP BY id HAVING max(ended) IS NOT NULL
"""
"""One sort instead of a join, so that it needs no index on the lines."""


def _where(from_us: Micros | None, to_us: Micros | None) -> tuple[str, list[int]]:
    bounds = [("started >= ?", from_us), ("started < ?", to_us)]
    given = [(text, limit) for text, limit in bounds if limit is not None]
    where = "WHERE " + " AND ".join(text for text, _ in given) if given else ""
    return where, [limit for _, limit in given]


def _key(dimension: Dimension, value: object) -> str | None:
    if dimension is Dimension.HOUR and isinstance(value, int):
        start = datetime.fromtimestamp(value * SECONDS_PER_HOUR, UTC)
        return start.strftime("%Y-%m-%dT%H:00Z")
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class _ClosedInterval:
    """A row of `_INTERVALS`."""

    session: str
    number: int
    started: int
    ended: int
    devices: int
    price: int
    capacity: int
    amount: int
    lines_nanos: int
    lines_amount: int


class _Balance:
    """Sums over intervals in their order, and the first that does not hold."""

    def __init__(self) -> None:
        self.sessions = self.intervals = 0
        self.capacity = self.amount = self.lines_nanos = self.lines_amount = 0
        self.fault: str | None = None
        self._last: _ClosedInterval | None = None
        self._session_capacity = self._session_amount = 0

    def take(self, one: _ClosedInterval) -> None:
        last = self._last if self._last and self._last.session == one.session else None
        if last is None:
            self.sessions += 1
            self._session_capacity = self._session_amount = 0
        self._session_capacity += one.capacity
        self._session_amount += one.amount
        self.intervals += 1
        self.capacity += one.capacity
        self.amount += one.amount
        self.lines_nanos += one.lines_nanos
        self.lines_amount += one.lines_amount
        self._last = one
        if self.fault is None:
            self.fault = self._fault(one, last)

    def _fault(self, one: _ClosedInterval, last: _ClosedInterval | None) -> str | None:
        where = f"interval {one.number} of session {one.session}"
        bought = one.devices * (one.ended - one.started) * NANOS_PER_MICRO
        owed = self._session_capacity * one.price // DEVICE_NANOS_PER_HOUR
        place = last.number + 1 if last else 0
        laws = [
            ("is numbered", one.number, "its place is", place),
            ("starts at (us)", one.started, "the last one ended at", last and last.ended),
            ("has a price of (nano-USD/h)", one.price, "the last one had", last and last.price),
            ("has devices", one.devices, "the last one had", last and last.devices),
            ("has a capacity of (ns)", one.capacity, "devices x time is", bought),
            ("has lines of (ns)", one.lines_nanos, "its capacity is", one.capacity),
            ("has lines of (nano-USD)", one.lines_amount, "its amount is", one.amount),
            (
                "brings its session to (nano-USD)",
                self._session_amount,
                "capacity x price is",
                owed,
            ),
        ]
        for has, found, must_be, expected in laws:
            if expected is not None and found != expected:
                return f"{where} {has} {found}, but {must_be} {expected}"
        return None


def _check_requests(db: sqlite3.Connection) -> tuple[int, int, str | None]:
    """How many requests ended, how many of them still wait for an interval, the first fault."""
    count = waiting = 0
    fault: str | None = None
    settled = _Settled(db)
    for request, ended, told_nanos, told_cost, nanos, amount in db.execute(_REQUESTS):
        count += 1
        if (told_nanos, told_cost) == (nanos, amount):
            continue
        if not settled.by(ended):
            waiting += 1
        elif fault is None:
            fault = (
                f"request {request} has lines of {nanos} ns and {amount} nano-USD, but its "
                f"client was told {told_nanos} ns and {told_cost} nano-USD"
            )
    return count, waiting, fault


class _Settled:
    """Up to which moments all time is posted: before the last closed interval of each session."""

    def __init__(self, db: sqlite3.Connection) -> None:
        spans = db.execute(
            "SELECT first.started, last.started FROM"
            " (SELECT session, max(number) AS number FROM intervals GROUP BY session) AS ends"
            " JOIN intervals AS last USING (session, number)"
            " JOIN intervals AS first ON first.session = ends.session AND first.number = 0"
            " ORDER BY first.started"
        ).fetchall()
        open_ended = [*spans, (float("inf"), float("inf"))]
        self._spans = [
            (began, closed, after) for (began, closed), (after, _) in pairwise(open_ended)
        ]

    def by(self, moment: int) -> bool:
        """Whether what ended at `moment` must be posted in full."""
        return any(
            began <= moment <= closed and moment < after for began, closed, after in self._spans
        )
