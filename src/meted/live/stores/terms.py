"""The terms that all houses on a database share: prices, rates and budgets."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from meted.domain.budget import Budget
from meted.domain.units import BudgetName, DeploymentName, Micros, TenantName
from meted.ledger.price_book import Owned, PriceBook, PriceVersion, Rented
from meted.ledger.rates import ByCost, RateBook, RateCard, RateVersion
from meted.live.store import StoreError
from meted.live.stores.database import Database, Statements, check_storable
from meted.live.stores.memory import encode
from meted.live.stores.postings import BudgetsByTenant

_HIGHEST_LIMIT = 2**62
"""Nano-USD, 4.6 billion dollars: sums of two such limits still fit in a column."""


class _PriceBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored price version; one of rented and owned is there."""

    device_kind: str
    effective: int
    recorded: int
    rented: Rented | None = None
    owned: Owned | None = None
    note: str = ""


class _RateBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored rate version; without by_cost and card it ends its scope's own rates."""

    effective: int
    recorded: int
    by_cost: ByCost | None = None
    card: RateCard | None = None
    tenant: str | None = None
    deployment: str | None = None
    note: str = ""


def bump(db: Statements) -> None:
    """Keys, budgets, prices or rates change now: every house will look again.

    The row also lets changes of the terms come one after the other.
    """
    db.change("UPDATE revision SET value = value + 1 WHERE id = 1")


def revision(db: Statements) -> int:
    """Counted up by each `bump`."""
    return db.rows("SELECT value FROM revision")[0][0]


class Terms:
    """Prices, rates and budgets; budgets are remembered until the revision changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_at: int | None = None
        self._budgets: dict[str, Budget] = {}
        self._by_tenant = BudgetsByTenant(())

    def price_book(self) -> PriceBook:
        return self._database.read(_price_book)

    def add_price(self, version: PriceVersion) -> None:
        """Raises StoreError if it was recorded before the last one."""

        def work(db: Statements) -> None:
            bump(db)
            book = _price_book(db)
            if version in book.versions:
                return
            _checked(lambda: book.with_version(version))
            db.change("INSERT INTO price_versions (body) VALUES (?)", encode(_price_body(version)))

        self._database.write(work)

    def rate_book(self) -> RateBook:
        return self._database.read(_rate_book)

    def add_rate(self, version: RateVersion) -> None:
        """Raises StoreError if it was recorded before the last one."""

        def work(db: Statements) -> None:
            bump(db)
            book = _rate_book(db)
            if version in book.versions:
                return
            _checked(lambda: book.with_version(version))
            db.change("INSERT INTO rate_versions (body) VALUES (?)", encode(_rate_body(version)))

        self._database.write(work)

    def in_force(self, db: Statements) -> Mapping[str, Budget]:
        """The budgets as this transaction sees them, by name."""
        self._refresh(db)
        return self._budgets

    def by_tenant(self, db: Statements) -> BudgetsByTenant:
        """The same budgets, to be found by the account that is charged."""
        self._refresh(db)
        return self._by_tenant

    def _refresh(self, db: Statements) -> None:
        now = revision(db)
        if now == self._read_at:
            return
        rows = db.rows("SELECT body FROM budgets WHERE retired = 0 ORDER BY name")
        budgets = [msgspec.json.decode(body, type=Budget) for (body,) in rows]
        self._budgets = {budget.name: budget for budget in budgets}
        self._by_tenant = BudgetsByTenant(budgets)
        self._read_at = now

    def budgets(self) -> list[Budget]:
        return [*self._database.read(self.in_force).values()]

    def save_budget(self, budget: Budget) -> None:
        """Raises StoreError if the budget is there with another scope or period."""
        scope = (budget.name, budget.tenant, budget.project, budget.key, budget.deployment)
        check_storable(*(part for part in scope if part is not None))
        if budget.limit > _HIGHEST_LIMIT:
            raise StoreError(
                f"budget {budget.name!r} has a limit of {budget.limit} nano-USD, expected "
                f"{_HIGHEST_LIMIT} or less"
            )

        def work(db: Statements) -> None:
            db.hold_postings()
            found = db.rows("SELECT body, retired FROM budgets WHERE name = ?", budget.name)
            if found and not found[0][1]:
                _check_same_scope(msgspec.json.decode(found[0][0], type=Budget), budget)
            bump(db)
            db.change(
                "INSERT INTO budgets (name, body, retired) VALUES (?, ?, 0)"
                " ON CONFLICT (name) DO UPDATE SET body = excluded.body, retired = 0",
                *(budget.name, encode(budget)),
            )

        self._database.write(work)

    def remove_budget(self, name: BudgetName) -> None:
        """Its windows go with it: a later budget of that name counts again what was charged."""

        def work(db: Statements) -> None:
            db.hold_postings()
            if not db.change("UPDATE budgets SET retired = 1 WHERE name = ? AND retired = 0", name):
                known = ", ".join(self.in_force(db)) or "none"
                raise StoreError(f"no budget has the name {name!r}; there are: {known}")
            db.change("DELETE FROM budget_leases WHERE budget = ?", name)
            db.change("DELETE FROM budget_windows WHERE budget = ?", name)
            bump(db)

        self._database.write(work)


def _check_same_scope(old: Budget, new: Budget) -> None:
    if replace(old, limit=new.limit, hard=new.hard, alerts=new.alerts) != new:
        raise StoreError(
            f"budget {new.name!r} is one of {old.tenant}/{old.project}/{old.key}/{old.deployment} "
            f"for a {old.period}; its scope and period cannot change: remove it and make it anew, "
            "or make another"
        )


def _checked(add: Callable[[], object]) -> None:
    try:
        add()
    except ValueError as error:
        raise StoreError(str(error)) from error


def _price_book(db: Statements) -> PriceBook:
    rows = db.rows("SELECT body FROM price_versions ORDER BY seq")
    bodies = [msgspec.json.decode(body, type=_PriceBody) for (body,) in rows]
    return PriceBook(versions=tuple(_price_version(body) for body in bodies))


def _price_body(version: PriceVersion) -> _PriceBody:
    basis = version.basis
    return _PriceBody(
        device_kind=version.device_kind,
        effective=version.effective,
        recorded=version.recorded,
        rented=basis if isinstance(basis, Rented) else None,
        owned=basis if isinstance(basis, Owned) else None,
        note=version.note,
    )


def _price_version(body: _PriceBody) -> PriceVersion:
    basis = body.rented or body.owned
    assert basis is not None
    return PriceVersion(
        device_kind=body.device_kind,
        effective=Micros(body.effective),
        recorded=Micros(body.recorded),
        basis=basis,
        note=body.note,
    )


def _rate_book(db: Statements) -> RateBook:
    rows = db.rows("SELECT body FROM rate_versions ORDER BY seq")
    bodies = [msgspec.json.decode(body, type=_RateBody) for (body,) in rows]
    return RateBook(versions=tuple(_rate_version(body) for body in bodies))


def _rate_body(version: RateVersion) -> _RateBody:
    rates = version.rates
    return _RateBody(
        effective=version.effective,
        recorded=version.recorded,
        by_cost=rates if isinstance(rates, ByCost) else None,
        card=rates if isinstance(rates, RateCard) else None,
        tenant=version.tenant,
        deployment=version.deployment,
        note=version.note,
    )


def _rate_version(body: _RateBody) -> RateVersion:
    return RateVersion(
        effective=Micros(body.effective),
        recorded=Micros(body.recorded),
        rates=body.by_cost or body.card,
        tenant=None if body.tenant is None else TenantName(body.tenant),
        deployment=None if body.deployment is None else DeploymentName(body.deployment),
        note=body.note,
    )
