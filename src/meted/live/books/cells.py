"""Sums over the books by account, and on demand by hour and request: what every report is made of.

Raw and folded entries count alike. An interval counts where it starts, a request where it arrived,
a charge where it was reserved, and a folded hour, which was made of such, where it begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros, TenantName
from meted.live.stores.database import Row, Statements, whole

HOUR_US = SECONDS_PER_HOUR * MICROS_PER_SECOND

Place = tuple[int, str | None, int | None]
"""An account's number, a request and an hour since 1970 (None where not asked for)."""

FOLDED_REQUESTS = "hour-requests/"
FOLDED_CHARGES = "hour-charges/"
"""How ids of postings begin that stand for all of an hour, in price corrections."""


@dataclass(slots=True)
class Cell:
    """Device time, cost and price of one place, corrections included, and what it bears of shared
    cost."""

    nanos: int = 0
    cost: int = 0
    price: int = 0
    shared: int = 0

    def add(self, other: "Cell") -> None:
        """The other's time, cost and price are of this place, too."""
        self.nanos += other.nanos
        self.cost += other.cost
        self.price += other.price


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which entries count: those in [from_us, to_us), and with a tenant only its own."""

    from_us: Micros | None = None
    to_us: Micros | None = None
    tenant: TenantName | None = None

    def moments(self, column: str) -> "_Where":
        """The condition on a column of moments."""
        bounds = [(f"{column} >= ?", self.from_us), (f"{column} < ?", self.to_us)]
        return self._where([(text, limit) for text, limit in bounds if limit is not None])

    def hours(self, column: str) -> "_Where":
        """The condition on a column of hours: those that begin within the bounds."""
        bounds = [(f"{column} >= ?", self.from_us), (f"{column} < ?", self.to_us)]
        return self._where(
            [(text, -(-limit // HOUR_US)) for text, limit in bounds if limit is not None]
        )

    @property
    def everything(self) -> bool:
        return self.from_us is None and self.to_us is None

    def _where(self, given: list[tuple[str, int]]) -> "_Where":
        texts, values = [text for text, _ in given], [limit for _, limit in given]
        if self.tenant is None:
            return _Where(texts=tuple(texts), values=tuple(values))
        # Idle time and overhead are the house's, whoever may be named beside them.
        own = (
            "{account} IN (SELECT id FROM accounts"
            " WHERE tenant = ? AND kind NOT IN ('idle', 'overhead'))"
        )
        return _Where(texts=tuple(texts), values=tuple(values), own=own, tenant=self.tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Conditions and their values; `own` is about a table with a column of accounts."""

    texts: tuple[str, ...]
    values: tuple[int, ...]
    own: str = ""
    tenant: str = ""

    def on(self, account: str) -> str:
        texts = [*self.texts, *([self.own.format(account=account)] if self.own else [])]
        return f" WHERE {' AND '.join(texts)}" if texts else ""

    @property
    def all_values(self) -> tuple[int | str, ...]:
        return (*self.values, self.tenant) if self.own else self.values


class Cells:
    """Sums of a scope, kept apart by account and, if asked for, by request and hour."""

    def __init__(self, db: Statements, scope: Scope, *, by_request: bool, by_hour: bool) -> None:
        self._db = db
        self._scope = scope
        self._by_request = by_request
        self._by_hour = by_hour
        self.found: dict[Place, Cell] = {}

    def read(self) -> dict[Place, Cell]:
        """Every place with its sums."""
        self._lines()
        self._corrections()
        self._postings()
        self._price_corrections()
        return self.found

    def _lines(self) -> None:
        hour = f"intervals.started / {HOUR_US}"
        joined = " FROM intervals JOIN lines USING (session, number)"
        if self._scope.everything and not self._by_hour:
            joined = " FROM lines"
        where = self._scope.moments("intervals.started")
        sums = ("lines.device_nanos", "lines.amount")
        self._take_used(
            joined,
            account="lines.account",
            request="lines.request",
            hour=hour,
            sums=sums,
            where=where,
        )
        self._take_used(
            " FROM hours JOIN hour_lines USING (session, first)",
            account="hour_lines.account",
            hour="hours.hour",
            sums=("hour_lines.device_nanos", "hour_lines.amount"),
            where=self._scope.hours("hours.hour"),
        )

    def _corrections(self) -> None:
        if not self._db.rows("SELECT 1 FROM corrections LIMIT 1"):
            return
        self._take_used(
            " FROM corrections JOIN intervals ON intervals.session = corrections.session"
            " AND intervals.number = corrections.number",
            account="corrections.account",
            request="corrections.request",
            hour=f"intervals.started / {HOUR_US}",
            sums=("0", "corrections.amount"),
            where=self._scope.moments("intervals.started"),
        )
        self._take_used(
            " FROM corrections JOIN hours ON hours.session = corrections.session"
            " AND hours.first = corrections.number",
            account="corrections.account",
            hour="hours.hour",
            sums=("0", "corrections.amount"),
            where=self._scope.hours("hours.hour"),
        )

    def _take_used(
        self,
        joined: str,
        *,
        account: str,
        hour: str,
        sums: tuple[str, str],
        where: _Where,
        request: str = "",
    ) -> None:
        found = self.found
        for *place, nanos, cost in self._rows(joined, account, request, hour, sums, where):
            key = tuple(place)
            cell = found.get(key)  # pyright: ignore[reportArgumentType, reportCallIssue]
            if cell is None:
                cell = self._new(key)
            cell.nanos += nanos
            cell.cost += cost

    def _postings(self) -> None:
        moments, hours = self._scope.moments, self._scope.hours
        for table, at, request in (("requests", "arrived", "requests.id"), ("charges", "at", "")):
            self._take_price(
                f" FROM {table}",
                account=f"{table}.account",
                hour=f"{table}.{at} / {HOUR_US}",
                price=f"{table}.price",
                where=moments(f"{table}.{at}"),
                request=request,
            )
        for table in ("hour_requests", "hour_charges"):
            self._take_price(
                f" FROM {table}",
                account=f"{table}.account",
                hour=f"{table}.hour",
                price=f"{table}.price",
                where=hours(f"{table}.hour"),
            )

    def _price_corrections(self) -> None:
        if not self._db.rows("SELECT 1 FROM price_corrections LIMIT 1"):
            return
        moments, hours = self._scope.moments, self._scope.hours
        for table, at, request in (("requests", "arrived", "requests.id"), ("charges", "at", "")):
            self._take_price(
                f" FROM price_corrections JOIN {table} ON {table}.id = price_corrections.id",
                account=f"{table}.account",
                hour=f"{table}.{at} / {HOUR_US}",
                price="price_corrections.amount",
                where=moments(f"{table}.{at}"),
                request=request,
            )
        for table, posting in (("hour_requests", FOLDED_REQUEST), ("hour_charges", FOLDED_CHARGE)):
            self._take_price(
                f" FROM {table} JOIN price_corrections ON price_corrections.id = {posting}",
                account=f"{table}.account",
                hour=f"{table}.hour",
                price="price_corrections.amount",
                where=hours(f"{table}.hour"),
            )

    def _take_price(
        self, joined: str, *, account: str, hour: str, price: str, where: _Where, request: str = ""
    ) -> None:
        found = self.found
        for *place, amount in self._rows(joined, account, request, hour, (price,), where):
            key = tuple(place)
            cell = found.get(key)  # pyright: ignore[reportArgumentType, reportCallIssue]
            if cell is None:
                cell = self._new(key)
            cell.price += amount

    def _rows(
        self,
        joined: str,
        account: str,
        request: str,
        hour: str,
        sums: tuple[str, ...],
        where: _Where,
    ) -> Iterator[Row]:
        """Rows of account, request, hour and numbers, added up as far as the database should."""
        place = [account]
        place.append(request if self._by_request and request else "null")
        place.append(hour if self._by_hour else "null")
        condition = f"{joined}{where.on(account)}"
        if place[1] != "null":
            # Nearly every row is a group of its own: adding up here spares the database a sort.
            return self._db.stream(
                f"SELECT {', '.join((*place, *sums))}{condition}", *where.all_values
            )
        groups = ", ".join(column for column in place if column != "null")
        exact = ", ".join("0" if one == "0" else self._db.exact_sum(one) for one in sums)
        rows = self._db.stream(
            f"SELECT {', '.join(place)}, {exact}{condition} GROUP BY {groups}", *where.all_values
        )
        return ((*row[:3], *map(whole, row[3:])) for row in rows)

    def _new(self, key: tuple[object, ...]) -> Cell:
        # A row's columns are what `Place` says; the driver does not know their types.
        place: Place = key  # pyright: ignore[reportAssignmentType]
        cell = self.found[place] = Cell()
        return cell


FOLDED_REQUEST = (
    f"'{FOLDED_REQUESTS}' || hour_requests.hour || '/' || hour_requests.account"
    " || '/' || hour_requests.outcome"
)
FOLDED_CHARGE = f"'{FOLDED_CHARGES}' || hour_charges.hour || '/' || hour_charges.account"
"""What stands in a price correction for all requests, or charges, of an hour and an account."""


def cut_hours(db: Statements, scope: Scope) -> tuple[int, ...]:
    """Folded hours that a bound of the scope falls into, so that they count whole or not at all."""
    cut: list[int] = []
    for bound in (scope.from_us, scope.to_us):
        if bound is None or bound % HOUR_US == 0 or bound // HOUR_US in cut:
            continue
        hour = bound // HOUR_US
        tables = ("hours", "hour_requests", "hour_charges")
        if any(db.rows(f"SELECT 1 FROM {table} WHERE hour = ? LIMIT 1", hour) for table in tables):
            cut.append(hour)
    return tuple(cut)
