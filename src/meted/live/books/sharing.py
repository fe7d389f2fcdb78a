"""The house's own cost, laid on tenants interval by interval, to the nano-dollar."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby

from meted.domain.units import NanoUSD, TenantName
from meted.ledger.shares import Method, share
from meted.ledger.split import largest_remainder
from meted.live.books.cells import HOUR_US, Place, Scope
from meted.live.store import StoreError
from meted.live.stores.database import Row, Statements, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How capacity was paid for: direct + shared + unallocated is its cost, to the nano."""

    method: Method
    direct: NanoUSD
    shared: NanoUSD
    unallocated: NanoUSD

    @property
    def capacity(self) -> NanoUSD:
        return NanoUSD(self.direct + self.shared + self.unallocated)


def shared_cost(
    db: Statements,
    scope: Scope,
    *,
    method: Method,
    reservations: Mapping[TenantName, int],
    by_request: bool,
    by_hour: bool,
    bear: Callable[[Place, int], None],
    bear_alone: Callable[[TenantName, int | None, int], None],
) -> Sharing:
    """Share every interval's cost that has no tenant, and say who bears what.

    bear: a place bears this part; negative where it gives its cost away. bear_alone: a tenant
    bears a part (in an hour) of an interval in which it has no line. A tenant's part is laid on
    its lines as their cost. Raises StoreError if the parts are not the capacity's cost.
    """
    owners = {
        number: TenantName(tenant) for number, tenant in db.rows("SELECT id, tenant FROM accounts")
    }
    direct = shared = unallocated = 0
    for _, rows in groupby(_lines(db, scope), key=lambda row: row[:2]):
        own: dict[TenantName, dict[Place, int]] = {}
        house: dict[Place, int] = {}
        hour: int | None = None
        for _, _, at_hour, account, request, amount in rows:
            hour = at_hour if by_hour else None
            place = (account, request if by_request else None, hour)
            owner = owners[account]
            cells = own.setdefault(owner, {}) if owner else house
            cells[place] = cells.get(place, 0) + amount
        costs = {tenant: NanoUSD(sum(cells.values())) for tenant, cells in own.items()}
        whole_house = NanoUSD(sum(house.values()))
        shares = share(shared=whole_house, direct=costs, method=method, reservations=reservations)
        direct += sum(costs.values())
        unallocated += shares.unallocated
        if not shares.parts:
            continue
        # A shared cost is laid on tenants whole or not at all.
        shared += whole_house
        for place, amount in house.items():
            bear(place, -amount)
        for tenant, part in shares.parts.items():
            laid = _laid(part, own.get(tenant, {}))
            for place, piece in laid:
                bear(place, piece)
            if part and not laid:
                bear_alone(tenant, hour, part)
    sharing = Sharing(
        method=method,
        direct=NanoUSD(direct),
        shared=NanoUSD(shared),
        unallocated=NanoUSD(unallocated),
    )
    _check(db, scope, sharing)
    return sharing


def _laid(part: int, cells: Mapping[Place, int]) -> list[tuple[Place, int]]:
    """A tenant's part on its own lines, as their cost; empty where none has any."""
    weights = {place: amount for place, amount in cells.items() if amount > 0}
    if not weights or not part:
        return []
    sign = -1 if part < 0 else 1
    pieces = largest_remainder(abs(part), list(weights.values()))
    return [(place, sign * piece) for place, piece in zip(weights, pieces, strict=True)]


def _lines(db: Statements, scope: Scope) -> Iterator[Row]:
    """Session, number, hour, account, request and amount of all lines and corrections, interval by
    interval, then folded hour by folded hour."""
    raw, folded = scope.moments("started"), scope.hours("hour")
    intervals = f"(SELECT session, number, started FROM intervals{raw.on('')}) AS spans"
    hours = f"(SELECT session, first, hour FROM hours{folded.on('')}) AS spans"
    return chain(
        db.stream(
            f"SELECT session, number, started / {HOUR_US}, account, request, amount"
            f" FROM {intervals} JOIN lines USING (session, number)"
            f" UNION ALL SELECT session, number, started / {HOUR_US}, account, request, amount"
            f" FROM {intervals} JOIN corrections USING (session, number) ORDER BY 1, 2",
            *(*raw.values, *raw.values),
        ),
        db.stream(
            "SELECT session, first, hour, account, null, amount"
            f" FROM {hours} JOIN hour_lines USING (session, first)"
            " UNION ALL SELECT spans.session, first, hour, account, null, amount"
            f" FROM {hours} JOIN corrections ON corrections.session = spans.session"
            " AND corrections.number = spans.first ORDER BY 1, 2",
            *(*folded.values, *folded.values),
        ),
    )


def _check(db: Statements, scope: Scope, sharing: Sharing) -> None:
    raw, folded = scope.moments("started"), scope.hours("hour")
    capacity = 0
    for statement, where in (
        (f"SELECT {db.exact_sum('amount')} FROM intervals{raw.on('')}", raw),
        (f"SELECT {db.exact_sum('amount')} FROM hours{folded.on('')}", folded),
        (
            f"SELECT {db.exact_sum('corrections.amount')} FROM corrections"
            f" JOIN intervals USING (session, number){raw.on('')}",
            raw,
        ),
        (
            f"SELECT {db.exact_sum('corrections.amount')} FROM corrections"
            " JOIN hours ON hours.session = corrections.session"
            f" AND hours.first = corrections.number{folded.on('')}",
            folded,
        ),
    ):
        capacity += whole(db.rows(statement, *where.values)[0][0])
    if capacity != sharing.capacity:
        raise StoreError(
            f"direct + shared + unallocated are {sharing.capacity} nano-USD but capacity cost "
            f"{capacity}; `meted bill --check` says which interval does not add up"
        )
