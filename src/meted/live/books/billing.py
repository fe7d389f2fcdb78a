"""The bill: who used what, what it cost us and what was charged for it. Reads only."""

import contextlib
import gc
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from meted.domain.units import SECONDS_PER_HOUR, DeviceNanos, Micros, NanoUSD, TenantName
from meted.ledger.shares import Method
from meted.live.books.cells import Cell, Cells, Place, Scope, cut_hours
from meted.live.books.opening import Target, opened
from meted.live.books.sharing import Sharing, shared_cost
from meted.live.books.uncharged import uncharged
from meted.live.stores.accounts import PARTS
from meted.live.stores.database import Statements


class Dimension(StrEnum):
    """What a bill can be broken down by."""

    KIND = "kind"
    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    DEPLOYMENT = "deployment"
    MODEL = "model"
    JOB = "job"
    REQUEST = "request"
    HOUR = "hour"


_PART = {
    Dimension.KIND: 0,
    Dimension.TENANT: 1,
    Dimension.PROJECT: 2,
    Dimension.KEY: 3,
    Dimension.DEPLOYMENT: 4,
    Dimension.MODEL: 5,
    Dimension.JOB: 6,
}
"""Where a dimension stands among an account's parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRow:
    """What one key used, cost and was charged. A part of the key is None where it does not apply.

    price: what was charged for it; 0 for what nobody is charged for. shared: what it bears of the
    house's own cost, beside its own; the house's rows give that away, so that all sum to 0.
    """

    key: tuple[str | None, ...]
    device_nanos: DeviceNanos
    nano_usd: NanoUSD
    price: NanoUSD = NanoUSD(0)
    shared: NanoUSD = NanoUSD(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Rows that sum to the totals, dearest first, or by time if the first dimension is the hour.

    started, ended: what the counted intervals span, in wall-clock micros; None without any.
    sharing: how the house's cost was shared, if it was. cut_hours: hours since 1970 that are folded
    and of which the bounds ask only a part: they count whole if they begin within the bounds.
    uncharged: training since a last checkpoint; once durable it is charged where its part began.
    """

    by: tuple[Dimension, ...]
    rows: tuple[BillRow, ...]
    intervals: int
    started: Micros | None
    ended: Micros | None
    device_nanos: DeviceNanos
    nano_usd: NanoUSD
    price: NanoUSD = NanoUSD(0)
    sharing: Sharing | None = None
    cut_hours: tuple[int, ...] = ()
    uncharged: DeviceNanos = DeviceNanos(0)


def bill(
    target: Target,
    *,
    by: Sequence[Dimension] = (Dimension.KIND,),
    from_us: Micros | None = None,
    to_us: Micros | None = None,
    tenant: TenantName | None = None,
    shared: Method | None = None,
    reservations: Mapping[TenantName, int] | None = None,
) -> Bill:
    """The closed intervals that started in [from_us, to_us), and the requests and charges of that
    time, broken down by one or more dimensions.

    tenant: only what is its own, never the house's. shared: share the house's cost by this method,
    interval by interval. Raises StoreError if the books cannot be read, and ValueError for
    dimensions that are none or twice the same, and for a tenant who would see what is shared.
    """
    if not by or len(set(by)) != len(by):
        raise ValueError(f"a bill by {list(by)} is not one; expected different dimensions")
    if tenant is not None and shared is not None:
        raise ValueError(
            f"tenant {tenant!r} cannot be shown the house's shared cost; leave out one of the two"
        )
    scope = Scope(from_us=from_us, to_us=to_us, tenant=tenant)
    by_request, by_hour = Dimension.REQUEST in by, Dimension.HOUR in by

    def work(db: Statements) -> Bill:
        count, started, ended = _span(db, scope)
        rows = _Rows(db, by)
        for place, cell in Cells(db, scope, by_request=by_request, by_hour=by_hour).read().items():
            rows.add(place, cell)
        sharing = None
        if shared is not None:
            sharing = shared_cost(
                db,
                scope,
                method=shared,
                reservations=reservations or {},
                by_request=by_request,
                by_hour=by_hour,
                bear=rows.bear,
                bear_alone=rows.bear_alone,
            )
        made = rows.bill(count, started, ended, sharing, cut_hours(db, scope))
        return replace(made, uncharged=uncharged(db, scope))

    with opened(target) as database, _collector_paused():
        return database.read(work)


def cut(target: Target, *, from_us: Micros | None, to_us: Micros | None) -> tuple[int, ...]:
    """Folded hours since 1970 of which a period has only a part. Raises StoreError."""
    scope = Scope(from_us=from_us, to_us=to_us)
    with opened(target) as database:
        return database.read(lambda db: cut_hours(db, scope))


@contextlib.contextmanager
def _collector_paused() -> Generator[None]:
    """A bill by request makes millions of values, none in a cycle, and Python's collector of cycles
    would look through all of them again and again: it took half of the time."""
    was_running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_running:
            gc.enable()


@lru_cache(maxsize=10_000)
def hour_name(hour: int) -> str:
    """An hour since 1970 as people write it, in UTC."""
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC).strftime("%Y-%m-%dT%H:00Z")


def account_parts(db: Statements) -> dict[int, tuple[str, ...]]:
    """All accounts by number: kind, tenant, project, key, deployment, model, job and note."""
    return {number: tuple(parts) for number, *parts in db.rows(f"SELECT id, {PARTS} FROM accounts")}


Key = tuple[str | None, ...]


def _key_of(getters: Sequence[Callable[[Place], str | None]]) -> Callable[[Place], Key]:
    """What makes a row's key of a place; called for every request of a bill by request."""
    if len(getters) == 1:
        (only,) = getters
        return lambda place: (only(place),)
    if len(getters) == 2:
        one, two = getters
        return lambda place: (one(place), two(place))
    return lambda place: tuple(get(place) for get in getters)


def _named(row: BillRow) -> tuple[str, ...]:
    return tuple([part or "" for part in row.key])


def _dearest(row: BillRow) -> tuple[int, int, int]:
    return (-row.nano_usd, -row.device_nanos, -row.price)


class _Rows:
    """Cells gathered into the rows of a bill."""

    def __init__(self, db: Statements, by: Sequence[Dimension]) -> None:
        self._by = tuple(by)
        self._accounts = account_parts(db)
        self._sums: dict[Key, Cell] = {}
        getters = [self._getter(dimension) for dimension in by]
        self._key = _key_of(getters)

    def _getter(self, dimension: Dimension) -> Callable[[Place], str | None]:
        if dimension is Dimension.REQUEST:
            return lambda place: place[1]
        if dimension is Dimension.HOUR:
            return lambda place: None if place[2] is None else hour_name(place[2])
        part, accounts = _PART[dimension], self._accounts
        return lambda place: accounts[place[0]][part] or None

    def add(self, place: Place, cell: Cell) -> None:
        """A cell of the books, which is this row's from now on."""
        key = self._key(place)
        sums = self._sums.get(key)
        if sums is None:
            self._sums[key] = cell
            return
        sums.add(cell)

    def bear(self, place: Place, part: int) -> None:
        """The row of a place bears a part of shared cost."""
        self._sums.setdefault(self._key(place), Cell()).shared += part

    def bear_alone(self, tenant: TenantName, hour: int | None, part: int) -> None:
        """A tenant bears a part without any line of its own to lay it on."""
        known: dict[Dimension, str | None] = {Dimension.TENANT: tenant}
        if hour is not None:
            known[Dimension.HOUR] = hour_name(hour)
        key = tuple(known.get(dimension) for dimension in self._by)
        self._sums.setdefault(key, Cell()).shared += part

    def bill(
        self,
        intervals: int,
        started: Micros | None,
        ended: Micros | None,
        sharing: Sharing | None,
        cut: tuple[int, ...],
    ) -> Bill:
        rows = [
            BillRow(
                key=key,
                device_nanos=DeviceNanos(cell.nanos),
                nano_usd=NanoUSD(cell.cost),
                price=NanoUSD(cell.price),
                shared=NanoUSD(cell.shared),
            )
            for key, cell in self._sums.items()
            if cell.nanos or cell.cost or cell.price or cell.shared
        ]
        # Ties keep the order of their names, whatever the database's was.
        rows.sort(key=_named)
        if self._by[0] is not Dimension.HOUR:
            rows.sort(key=_dearest)
        return Bill(
            by=self._by,
            rows=tuple(rows),
            intervals=intervals,
            started=started,
            ended=ended,
            device_nanos=DeviceNanos(sum(row.device_nanos for row in rows)),
            nano_usd=NanoUSD(sum(row.nano_usd for row in rows)),
            price=NanoUSD(sum(row.price for row in rows)),
            sharing=sharing,
            cut_hours=cut,
        )


def _span(db: Statements, scope: Scope) -> tuple[int, Micros | None, Micros | None]:
    """How many intervals count, and from when to when they span.

    With a tenant those that hold a line of its own, so that it learns nothing of the house.
    """
    raw, folded = scope.moments("started"), scope.hours("hour")
    queries = [("intervals", "count(*)", raw), ("hours", "sum(intervals)", folded)]
    count, moments = 0, list[int]()
    for table, counted, where in queries:
        texts, values = list(where.texts), list[int | str](where.values)
        if scope.tenant is not None:
            lines, number = ("lines", "number") if table == "intervals" else ("hour_lines", "first")
            texts.append(
                f"EXISTS (SELECT 1 FROM {lines} JOIN accounts ON accounts.id = {lines}.account"
                f" WHERE {lines}.session = {table}.session"
                f" AND {lines}.{number} = {table}.{number}"
                " AND tenant = ? AND kind NOT IN ('idle', 'overhead'))"
            )
            values.append(scope.tenant)
        condition = f" WHERE {' AND '.join(texts)}" if texts else ""
        found, started, ended = db.rows(
            f"SELECT {counted}, min(started), max(ended) FROM {table}{condition}", *values
        )[0]
        count += int(found or 0)
        moments += [moment for moment in (started, ended) if moment is not None]
    if not moments:
        return count, None, None
    return count, Micros(min(moments)), Micros(max(moments))
