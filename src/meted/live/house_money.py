"""The house's money and credentials as its doors see them: budgets, keys, prices, rates, bills."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from meted.domain.budget import Budget
from meted.domain.units import BudgetName, KeyId, Micros, NanoUSD, ProjectName, TenantName
from meted.ledger.price_book import PriceVersion
from meted.ledger.rates import RateVersion
from meted.live import books
from meted.live.audited import AuditedStore
from meted.live.doors import BudgetGauge, HouseError, Key
from meted.live.money_views import (
    audit_view,
    bill_view,
    key_view,
    price_view,
    rate_view,
    standing_view,
)
from meted.live.store import Lease, Store, StoreDownError, StoreError
from meted.policy.rate_limit import Limits

T = TypeVar("T")

INVALID = "invalid_request_error"
RETRY_S = 2

_log = logging.getLogger("meted.house")


class InWriter(Protocol):
    """Runs a call in the thread that alone touches the store, in order."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


class HouseMoney:
    """The part of `Doors` that is about money and credentials, over a store.

    books: what `books.bill` reads. wall: for the moments of the audit log and of new versions.
    on_change: makes the house read again what was changed. gauges: how budgets stand in memory,
    which is ahead of the store by what is reserved and what is not written yet.
    """

    def __init__(
        self,
        *,
        store: Store,
        in_writer: InWriter,
        books: Path | str,
        wall: Callable[[], Micros],
        on_change: Callable[[], Awaitable[None]],
        gauges: Callable[[], Sequence[BudgetGauge]] = tuple,
    ) -> None:
        self._store = store
        self._in_writer = in_writer
        self._books = books
        self._wall = wall
        self._on_change = on_change
        self._gauges = gauges
        self._notes: set[asyncio.Task[None]] = set()

    async def bill(
        self,
        *,
        by: Sequence[str],
        from_us: Micros | None,
        to_us: Micros | None,
        tenant: TenantName | None,
    ) -> dict[str, Any]:
        """Usage, cost and price, read beside the writer. Raises HouseError (400, 503)."""
        dimensions = bill_dimensions(by)

        def read() -> dict[str, Any]:
            found = books.bill(
                self._books, by=dimensions, from_us=from_us, to_us=to_us, tenant=tenant
            )
            return bill_view(found)

        return await _explained(asyncio.to_thread(read))

    # Budgets.

    async def budgets(self, tenant: TenantName | None) -> list[dict[str, Any]]:
        leases = await self._read(lambda: self._store.standings(now=self._wall()))
        gauges = {gauge.name: gauge for gauge in self._gauges()}
        return [
            self._standing(lease, gauges.get(lease.budget.name))
            for lease in leases
            if tenant is None or lease.budget.tenant == tenant
        ]

    def _standing(self, lease: Lease, gauge: BudgetGauge | None) -> dict[str, Any]:
        """How a budget stands over all houses; this one's part as its memory has it."""
        spent, reserved = lease.all_spent, NanoUSD(0)
        if gauge is not None:
            # Memory knows what the store will know: this house's spending, and its reservations.
            spent = NanoUSD(max(spent, gauge.spent))
            reserved = gauge.reserved
        return standing_view(lease.budget, lease.window, spent=spent, reserved=reserved)

    async def save_budget(self, budget: Budget, *, actor: Key) -> dict[str, Any]:
        await self._change(lambda: self._as(actor).save_budget(budget), status=409, param="name")
        return await self._one_budget(budget.name)

    async def remove_budget(self, name: BudgetName, *, actor: Key) -> dict[str, Any]:
        await self._change(lambda: self._as(actor).remove_budget(name), status=404, param="name")
        return {"name": name, "removed": True}

    async def _one_budget(self, name: BudgetName) -> dict[str, Any]:
        return next(row for row in await self.budgets(None) if row["name"] == name)

    # Keys.

    async def keys(self, tenant: TenantName | None) -> list[dict[str, Any]]:
        found = await self._read(self._store.keys)
        return [key_view(key) for key in found if tenant is None or key.tenant == tenant]

    async def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits,
        actor: Key,
    ) -> dict[str, Any]:
        """The key's public part and `secret`, shown only now."""
        key, secret = await self._change(
            lambda: self._as(actor).create_key(
                tenant=tenant, project=project, name=name, admin=admin, limits=limits
            ),
            status=400,
            param=None,
        )
        return {**key_view(key), "secret": secret}

    async def rotate_key(self, key_id: KeyId, *, actor: Key) -> dict[str, Any]:
        key, secret = await self._change(
            lambda: self._as(actor).rotate_key(key_id), status=404, param="id"
        )
        return {**key_view(key), "secret": secret}

    async def revoke_key(self, key_id: KeyId, *, actor: Key) -> dict[str, Any]:
        await self._change(lambda: self._as(actor).revoke_key(key_id), status=404, param="id")
        return {"id": key_id, "revoked": True}

    # Prices and rates.

    async def prices(self) -> list[dict[str, Any]]:
        book = await self._read(self._store.price_book)
        return [price_view(version) for version in book.versions]

    async def add_price(self, version: PriceVersion, *, actor: Key) -> dict[str, Any]:
        added = await self._change(
            lambda: self._as(actor).add_price(version), status=409, param=None
        )
        return price_view(added)

    async def rates(self) -> list[dict[str, Any]]:
        book = await self._read(self._store.rate_book)
        return [rate_view(version) for version in book.versions]

    async def add_rate(self, version: RateVersion, *, actor: Key) -> dict[str, Any]:
        added = await self._change(
            lambda: self._as(actor).add_rate(version), status=409, param=None
        )
        return rate_view(added)

    # The audit log.

    async def audit_log(self, limit: int) -> list[dict[str, Any]]:
        """Newest first, with all that was noted before this was asked."""
        await self.settle()
        entries = await self._read(lambda: self._store.audit_log(limit))
        return [audit_view(entry) for entry in entries]

    def note(self, *, actor: Key, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Enter an admin's action, in the writer's turn; `settle` waits for it."""

        async def enter() -> None:
            try:
                await self._in_writer(lambda: self._as(actor).note(action, subject, detail))
            except StoreError:
                _log.exception("not in the audit log: %s %s by %s", action, subject, actor.id)

        task = asyncio.get_running_loop().create_task(enter())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def settle(self) -> None:
        """Wait until all that was noted so far is in the audit log, e.g. before the house ends."""
        await asyncio.gather(*self._notes)

    # The store.

    def _as(self, actor: Key) -> AuditedStore:
        return AuditedStore(self._store, wall=self._wall, actor=actor.id)

    async def _read(self, call: Callable[[], T]) -> T:
        return await _explained(self._in_writer(call))

    async def _change(self, call: Callable[[], T], *, status: int, param: str | None) -> T:
        """Do it in the writer's thread, then make the house read it, before anyone is told."""
        changed = await _explained(self._in_writer(call), status=status, param=param)
        await self._on_change()
        return changed


def bill_dimensions(by: Sequence[str]) -> tuple[books.Dimension, ...]:
    """The dimensions of a bill. Raises HouseError (400) for one that is unknown or there twice."""
    known = [str(one) for one in books.Dimension]
    for name in by:
        if name not in known:
            raise HouseError(
                f"by is {name[:80]!r}, expected one of {', '.join(known)}",
                status=400,
                type=INVALID,
                param="by",
            )
    if len(set(by)) != len(by):
        raise HouseError(
            f"by names {', '.join(by)}, expected different ones; leave the second out",
            status=400,
            type=INVALID,
            param="by",
        )
    return tuple(books.Dimension(name) for name in by) or (books.Dimension.KIND,)


async def _explained(work: Awaitable[T], *, status: int = 500, param: str | None = None) -> T:
    """A call to the store, its errors as what a door can say."""
    try:
        return await work
    except StoreDownError as error:
        raise HouseError(
            str(error), status=503, type="server_error", code="store_down", retry_after_s=RETRY_S
        ) from error
    except (StoreError, ValueError) as error:
        kind = INVALID if status < 500 else "server_error"
        raise HouseError(str(error), status=status, type=kind, param=param) from error
