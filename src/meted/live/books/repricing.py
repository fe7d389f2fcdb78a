"""Re-rating what tenants were charged: price corrections beside requests and charges."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from meted.domain.units import DeploymentName, DeviceNanos, Micros, NanoUSD, TenantName
from meted.ledger.rates import RateBook, Rates, price_of_request, price_of_training
from meted.ledger.rerate import price_again
from meted.live.books.cells import HOUR_US, Scope
from meted.live.books.opening import Target, opened
from meted.live.books.rerating import Rerated, after_all, enter_rerate, hours_of, within_hour
from meted.live.pricing import Pricing
from meted.live.store import StoreError
from meted.live.stores.database import Statements, whole
from meted.live.stores.terms import Terms


def rerate_prices(
    target: Target, *, from_us: Micros, to_us: Micros, reason: str, now: Micros
) -> Rerated:
    """Correct the price of every request that arrived, and every charge that was reserved, in
    [from_us, to_us) and for which the rate book now says other rates. Doing it twice adds nothing.

    A request is charged by its cost with all corrections of it. What was waived stays waived.
    Raises StoreError where requests of the period are folded, because their sums cannot be rated.
    """
    scope = Scope(from_us=from_us, to_us=to_us)
    with opened(target, write=True) as database:
        book = Terms(database).rate_book()
        at = after_all(now, (one.recorded for one in book.versions))
        database.read(lambda db: _refuse_folded(db, scope))
        rates = _RatesThenAndNow(book)
        costs = database.read(_corrected_costs)
        parts = database.read(lambda db: _job_parts(db, scope))

        def run(db: Statements, hour: int) -> Rerated:
            part = within_hour(scope, hour)
            changes, kept = dict[str, int](), 0
            for one in _charged_requests(db, part, rates, costs):
                kept += one.take(changes)
            for one in _charged_parts(db, part, rates, parts):
                kept += one.take(changes)
            if changes:
                rerate = enter_rerate(db, at, part, reason)
                rows = [(rerate, posting, amount) for posting, amount in sorted(changes.items())]
                db.insert("price_corrections", "rerate, id, amount", rows)
            return Rerated(
                changed=len(changes),
                corrections=len(changes),
                amount=NanoUSD(sum(changes.values())),
                kept=kept,
            )

        total = Rerated()
        for hour in database.read(lambda db: _posting_hours(db, scope)):
            total += database.write(lambda db, hour=hour: run(db, hour))
        return total


def _posting_hours(db: Statements, scope: Scope) -> list[int]:
    requests = hours_of(db, scope, "requests", "arrived", "hour_requests")
    return sorted({*requests, *hours_of(db, scope, "charges", "at", "hour_charges")})


def _refuse_folded(db: Statements, scope: Scope) -> None:
    assert scope.from_us is not None and scope.to_us is not None
    bounds = (scope.from_us // HOUR_US, -(-scope.to_us // HOUR_US))
    for table in ("hour_requests", "hour_charges"):
        last = db.rows(f"SELECT max(hour) FROM {table} WHERE hour >= ? AND hour < ?", *bounds)[0][0]
        if last is not None:
            raise StoreError(
                f"hour {last} since 1970 is folded, and a sum of many prices, each rounded, cannot "
                f"be rated anew; begin at {(last + 1) * HOUR_US} us or later"
            )


class _RatesThenAndNow:
    """The rates of a posting as the book had them at its time, and as it has them now."""

    def __init__(self, book: RateBook) -> None:
        self._book = book
        self._now = Pricing(book)
        self._then: dict[int, Pricing] = {}
        self._recorded = [one.recorded for one in book.versions]

    def of(self, tenant: str, deployment: str, at: int) -> tuple[Rates, Rates]:
        known = sum(recorded <= at for recorded in self._recorded)
        then = self._then.get(known)
        if then is None:
            then = self._then[known] = Pricing(RateBook(versions=self._book.versions[:known]))
        scope = (TenantName(tenant), DeploymentName(deployment) if deployment else None, Micros(at))
        return then.rates(*scope), self._now.rates(*scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repriced:
    """A posting: what it was charged at first, is charged now, and would be by both rates."""

    id: str
    charged: int
    corrected: int
    by_old_rates: int
    by_new_rates: int

    def take(self, changes: dict[str, int]) -> bool:
        """Enter its correction, if it needs one; whether it keeps another price than its rates'."""
        price = price_again(
            NanoUSD(self.charged),
            by_old_rates=NanoUSD(self.by_old_rates),
            by_new_rates=NanoUSD(self.by_new_rates),
        )
        if price != self.charged + self.corrected:
            changes[self.id] = price - self.charged - self.corrected
        return self.charged != self.by_old_rates


_CORRECTED = (
    "(SELECT coalesce(sum(amount), 0) FROM price_corrections WHERE price_corrections.id = {}.id)"
)


def _charged_requests(
    db: Statements, part: Scope, rates: _RatesThenAndNow, costs: dict[str, int]
) -> Iterator[_Repriced]:
    where = part.moments("arrived")
    for request, arrived, tenant, deployment, *numbers in db.rows(
        "SELECT requests.id, arrived, tenant, deployment, prompt_tokens, cached_tokens,"
        f" completion_tokens, cost, price, {_CORRECTED.format('requests')}"
        " FROM requests JOIN accounts ON accounts.id = requests.account"
        f"{where.on('')} AND tenant <> ''",
        *where.values,
    ):
        prompt, cached, completion, cost, price, corrected = map(int, numbers)
        then, now = rates.of(tenant, deployment, arrived)
        tokens = {
            "input_tokens": max(0, prompt - cached),
            "cached_tokens": cached,
            "output_tokens": completion,
        }
        yield _Repriced(
            id=request,
            charged=price,
            corrected=corrected,
            by_old_rates=price_of_request(then, **tokens, cost=NanoUSD(cost)),
            by_new_rates=price_of_request(
                now, **tokens, cost=NanoUSD(cost + costs.get(request, 0))
            ),
        )


def _corrected_costs(db: Statements) -> dict[str, int]:
    """All corrections of requests' costs."""
    return {
        request: whole(amount)
        for request, amount in db.rows(
            f"SELECT request, {db.exact_sum('amount')} FROM corrections"
            " WHERE request IS NOT NULL GROUP BY request"
        )
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A charge of a job: its job's time and cost before it, and with it."""

    before: tuple[int, int]
    after: tuple[int, int]


def _job_parts(db: Statements, scope: Scope) -> dict[str, _Part]:
    """Every charge of the jobs that were charged in a period, because prices of training are
    rounded over a job's whole life."""
    where = scope.moments("at")
    jobs = f"SELECT job FROM accounts JOIN charges ON charges.account = accounts.id{where.on('')}"
    held: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for tenant, job, nanos, cost in db.rows(
        f"SELECT tenant, job, {db.exact_sum('device_nanos')}, {db.exact_sum('cost')}"
        " FROM hour_charges JOIN accounts ON accounts.id = hour_charges.account"
        f" WHERE job IN ({jobs}) GROUP BY tenant, job",
        *where.values,
    ):
        held[tenant, job] = (whole(nanos), whole(cost))
    parts: dict[str, _Part] = {}
    for posting, tenant, job, nanos, cost in db.rows(
        "SELECT charges.id, tenant, job, device_nanos, cost"
        " FROM charges JOIN accounts ON accounts.id = charges.account"
        f" WHERE job IN ({jobs}) ORDER BY at, charges.id",
        *where.values,
    ):
        before = held[tenant, job]
        held[tenant, job] = after = (before[0] + nanos, before[1] + cost)
        parts[posting] = _Part(before=before, after=after)
    return parts


def _charged_parts(
    db: Statements, scope: Scope, rates: _RatesThenAndNow, parts: dict[str, _Part]
) -> Iterator[_Repriced]:
    where = scope.moments("at")
    for charge, at, tenant, price, corrected in db.rows(
        f"SELECT charges.id, at, tenant, price, {_CORRECTED.format('charges')}"
        " FROM charges JOIN accounts ON accounts.id = charges.account"
        f"{where.on('')} AND tenant <> ''",
        *where.values,
    ):
        if charge not in parts:
            # It was entered since the period was looked through; the next run finds it.
            continue
        then, now = rates.of(tenant, "", at)
        old, new = (_price_of_part(one, parts[charge]) for one in (then, now))
        # A house that began anew in mid-job rounds once more.
        near = price if abs(price - old) <= 1 else old
        yield _Repriced(
            id=charge,
            charged=price,
            corrected=int(corrected),
            by_old_rates=near,
            by_new_rates=price if now == then else new,
        )


def _price_of_part(rates: Rates, part: _Part) -> int:
    before, after = (
        price_of_training(rates, DeviceNanos(nanos), NanoUSD(cost))
        for nanos, cost in (part.before, part.after)
    )
    return after - before
