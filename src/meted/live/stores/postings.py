"""Requests and charges, each entered once, and what they spend of budgets' windows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meted.domain.arms import public_name
from meted.domain.budget import Budget, Window
from meted.domain.line import Account
from meted.domain.tenancy import Payer
from meted.domain.units import (
    DeploymentName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    TenantName,
)
from meted.ledger.windows import window_of
from meted.live.store import Batch, ChargeRow, LeaseLostError, RequestRow
from meted.live.stores.accounts import AccountNumbers
from meted.live.stores.database import Statements, whole

_REQUEST = (
    "id, session, account, arrived, ended, outcome, prompt_tokens, cached_tokens,"
    " completion_tokens, ttft_us, device_nanos, cost, price, stopped"
)
_CHARGE = "id, session, account, at, device_nanos, cost, price"
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_REMEMBERED = 10_000
_Charged = tuple[TenantName, ProjectName | None, KeyId | None, DeploymentName | None, int]

OUTSIDE = ""
"""In place of a house: what was charged before or outside of all leases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What counts against budgets: who is charged how much, when, and where it was reserved."""

    name: str
    account: Account
    at: Micros
    price: NanoUSD
    windows: tuple[Window, ...]


def enter_requests(
    db: Statements, accounts: AccountNumbers, session: int, rows: Sequence[RequestRow]
) -> list[Posting]:
    """Enter requests that are not there yet; returns those."""
    new = db.insert_new(
        "requests",
        _REQUEST,
        [
            (
                *(row.request_id, session, accounts.of(row.account), row.arrived, row.ended),
                *(row.outcome, row.prompt_tokens, row.cached_tokens, row.completion_tokens),
                *(row.ttft_us, row.device_nanos, row.cost, row.price, row.stopped),
            )
            for row in rows
        ],
        key="id",
    )
    return [
        Posting(
            name=f"request {row.request_id}",
            account=row.account,
            at=row.arrived,
            price=row.price,
            windows=row.windows,
        )
        for row, is_new in zip(rows, new, strict=True)
        if is_new
    ]


def enter_charges(
    db: Statements, accounts: AccountNumbers, session: int, rows: Sequence[ChargeRow]
) -> list[Posting]:
    """Enter charges that are not there yet; returns those."""
    new = db.insert_new(
        "charges",
        _CHARGE,
        [
            (
                *(row.id, session, accounts.of(row.account), row.at),
                *(row.device_nanos, row.cost, row.price),
            )
            for row in rows
        ],
        key="id",
    )
    return [
        Posting(
            name=f"charge {row.id}",
            account=row.account,
            at=row.at,
            price=row.price,
            windows=row.windows,
        )
        for row, is_new in zip(rows, new, strict=True)
        if is_new
    ]


class BudgetsByTenant:
    """The budgets in force, found by the account that is charged."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._by_tenant: dict[TenantName, list[Budget]] = {}
        for budget in budgets:
            self._by_tenant.setdefault(budget.tenant, []).append(budget)
        self._found: dict[_Charged, list[tuple[Budget, Window]]] = {}

    def windows(self, account: Account, at: Micros) -> list[tuple[Budget, Window]]:
        """Those that a charge to this account at this moment counts in."""
        if account.tenant is None or account.tenant not in self._by_tenant:
            return []
        # No window begins or ends within a day.
        charged = (account.tenant, account.project, account.key, account.deployment, at // _DAY_US)
        found = self._found.get(charged)
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            payer = _payer(account)
            found = self._found[charged] = [
                (budget, window_of(budget, at))
                for budget in self._by_tenant[account.tenant]
                if budget.covers(payer, account.deployment)
            ]
        return found


def _payer(account: Account) -> Payer:
    assert account.tenant is not None
    key = account.key or KeyId("")
    if account.project is None:
        return Payer(tenant=account.tenant, key=key)
    return Payer(tenant=account.tenant, project=account.project, key=key)


def spend(
    db: Statements, house: str, budgets: BudgetsByTenant, postings: Sequence[Posting]
) -> None:
    """Add new postings to what was spent of each window: one statement for each.

    Raises LeaseLostError where that is more than the house was granted of a hard budget, and for a
    posting reserved in another window than the one it falls into: its budget was made anew since.
    """
    reserved: dict[tuple[str, int], tuple[Budget, int]] = {}
    outside: dict[tuple[str, int], int] = {}
    for posting in postings:
        if not posting.price:
            continue
        for budget, window in budgets.windows(posting.account, posting.at):
            _check_reserved_there(posting, window)
            place = (window.budget, window.starts)
            if window in posting.windows:
                _, before = reserved.get(place, (budget, 0))
                reserved[place] = (budget, before + posting.price)
            else:
                outside[place] = outside.get(place, 0) + posting.price
    # All windows are locked before any lease, as `lease` does it.
    leased = [place for place in sorted(outside) if _lock(db, place)]
    for place in leased:
        add_outside(db, place, outside[place])
    for place, (budget, price) in sorted(reserved.items(), key=lambda item: item[0]):
        _spend_reserved(db, house, budget, place, price)


def _check_reserved_there(posting: Posting, window: Window) -> None:
    for named in posting.windows:
        if named.budget == window.budget and named != window:
            raise LeaseLostError(
                f"{posting.name} at {posting.at} falls into {window} but was reserved in {named}; "
                "reserve a posting at the moment that it bears, or write it without the window"
            )


def _lock(db: Statements, place: tuple[str, int]) -> bool:
    """Keep other transactions from granting of a window; False if nobody has leased it yet."""
    found = db.rows(
        f"SELECT 1 FROM budget_windows WHERE budget = ? AND starts = ?{db.for_update}", *place
    )
    return bool(found)


def add_outside(db: Statements, place: tuple[str, int], price: int) -> None:
    """Count what was charged outside of all leases; the window's row is locked by the caller."""
    db.change(
        "INSERT INTO budget_leases (budget, starts, house, granted, spent, wanted, closed)"
        " VALUES (?, ?, ?, ?, ?, 0, 1) ON CONFLICT (budget, starts, house) DO UPDATE"
        " SET granted = budget_leases.granted + excluded.granted,"
        " spent = budget_leases.spent + excluded.spent",
        *(*place, OUTSIDE, price, price),
    )


def _spend_reserved(
    db: Statements, house: str, budget: Budget, place: tuple[str, int], price: int
) -> None:
    within = db.change(
        "UPDATE budget_leases SET spent = spent + ?"
        " WHERE budget = ? AND starts = ? AND house = ? AND spent + ? <= granted",
        *(price, *place, house, price),
    )
    if within:
        return
    where = "WHERE budget = ? AND starts = ? AND house = ?"
    if not budget.hard and db.change(
        f"UPDATE budget_leases SET spent = spent + ?, granted = spent + ? {where}",
        *(price, price, *place, house),
    ):
        return
    if not budget.hard:
        # Nothing is leased of it: it counts like what was charged outside, or once it is leased.
        if _lock(db, place):
            add_outside(db, place, price)
        return
    held = db.rows(f"SELECT granted, spent FROM budget_leases {where}", *place, house)
    granted, spent = held[0] if held else (0, 0)
    raise LeaseLostError(
        f"{price} nano-USD were reserved of budget {budget.name!r} from {place[1]} on, but house "
        f"{house!r} holds {granted} of it and has spent {spent}; lease anew, or write it without "
        "the window"
    )


def charged_before(db: Statements, budget: Budget, window: Window) -> int:
    """What was charged in a window, in nano-USD, by all postings, also those folded into hours.

    An hour lies in a window as a whole or not at all.
    """
    scope = [("accounts.tenant", budget.tenant), ("accounts.project", budget.project)]
    scope += [("accounts.key_id", budget.key)]
    given = [(column, part) for column, part in scope if part is not None]
    texts = [f"{column} = ?" for column, _ in given]
    parts = [part for _, part in given]
    if budget.deployment is not None:
        names = _versions(db, budget.deployment)
        texts.append(f"accounts.deployment IN ({', '.join('?' * len(names))})")
        parts += names
    where = " AND ".join(texts)
    ends = "" if window.ends is None else " AND {at} < ?"
    total = 0
    for table, at, unit in (
        ("requests", "arrived", 1),
        ("charges", "at", 1),
        ("hour_requests", "hour", _HOUR_US),
        ("hour_charges", "hour", _HOUR_US),
    ):
        bounds = [window.starts // unit] + ([] if window.ends is None else [window.ends // unit])
        found = db.rows(
            f"SELECT {db.exact_sum('price')} FROM {table}"
            f" JOIN accounts ON accounts.id = {table}.account"
            f" WHERE {where} AND {at} >= ?{ends.format(at=at)}",
            *parts,
            *bounds,
        )
        total += whole(found[0][0])
    return total


def _versions(db: Statements, deployment: DeploymentName) -> list[str]:
    """A deployment's name and those of its versions, as far as the books know any."""
    found = db.rows("SELECT DISTINCT deployment FROM accounts WHERE deployment <> ''")
    return [deployment, *(one for (one,) in found if one != public_name(one) == deployment)]


def session_of(batch: Batch) -> str:
    """The session that a batch belongs to. Raises ValueError if nothing in it says so."""
    name = batch.session
    if not name and batch.open is not None:
        name = batch.open.session
    if not name and batch.closed:
        name = batch.closed[-1].session
    if not name and (batch.requests or batch.charges):
        raise ValueError("a batch with requests or charges and no interval must name its session")
    return name
