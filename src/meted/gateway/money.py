"""The doors of money and keys under /meted/v1: all for admins, a tenant's own for its keys."""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from meted.domain.units import BudgetName, KeyId, Micros
from meted.gateway.guard import Guard, seen_by
from meted.gateway.limits import KeyLimits
from meted.gateway.money_bodies import (
    AUDIT_ROWS,
    MOST_AUDIT_ROWS,
    check_query,
    count,
    read_bill,
    read_budget,
    read_key,
    read_price,
    read_rate,
)
from meted.live.doors import Doors, Key


def wall_micros() -> Micros:
    return Micros(time.time_ns() // 1_000)


class Money:
    """Bills, budgets, keys, prices, rates and the audit log."""

    def __init__(
        self,
        doors: Doors,
        guard: Guard,
        limits: KeyLimits,
        wall: Callable[[], Micros] = wall_micros,
    ) -> None:
        self._doors = doors
        self._guard = guard
        self._limits = limits
        self._wall = wall

    def routes(self) -> list[Route]:
        guard = self._guard
        return [
            guard.tenant("GET", "/bill", self._bill),
            guard.tenant("GET", "/budgets", self._budgets),
            guard.admin("PUT", "/budgets/{name}", self._save_budget),
            guard.admin("DELETE", "/budgets/{name}", self._remove_budget),
            guard.tenant("GET", "/keys", self._keys),
            guard.admin("POST", "/keys", self._create_key),
            guard.admin("POST", "/keys/{id}/rotate", self._rotate_key),
            guard.admin("DELETE", "/keys/{id}", self._revoke_key),
            guard.admin("GET", "/prices", self._prices),
            guard.admin("POST", "/prices", self._add_price),
            guard.admin("GET", "/rates", self._rates),
            guard.admin("POST", "/rates", self._add_rate),
            guard.admin("GET", "/audit", self._audit),
            guard.admin("POST", "/refresh", self._refresh),
        ]

    async def _bill(self, request: Request, key: Key) -> Any:
        wish = read_bill(request.query_params)
        bill = await self._doors.bill(
            by=wish.by, from_us=wish.from_us, to_us=wish.to_us, tenant=seen_by(key)
        )
        rows = bill["rows"]
        more = max(0, len(rows) - wish.limit)
        return {**bill, "rows": rows[: wish.limit], "more_rows": more}

    async def _budgets(self, request: Request, key: Key) -> Any:
        check_query(request.query_params)
        return await self._doors.budgets(seen_by(key))

    async def _save_budget(self, request: Request, key: Key) -> Any:
        budget = read_budget(request.path_params["name"], await self._guard.body(request))
        return await self._doors.save_budget(budget, actor=key)

    async def _remove_budget(self, request: Request, key: Key) -> Any:
        return await self._doors.remove_budget(BudgetName(request.path_params["name"]), actor=key)

    async def _keys(self, request: Request, key: Key) -> Any:
        check_query(request.query_params)
        return await self._doors.keys(seen_by(key))

    async def _create_key(self, request: Request, key: Key) -> Any:
        wish = read_key(await self._guard.body(request))
        return await self._doors.create_key(
            tenant=wish.tenant,
            project=wish.project,
            name=wish.name,
            admin=wish.admin,
            limits=wish.limits,
            actor=key,
        )

    async def _rotate_key(self, request: Request, key: Key) -> Any:
        return await self._doors.rotate_key(KeyId(request.path_params["id"]), actor=key)

    async def _revoke_key(self, request: Request, key: Key) -> Any:
        key_id = KeyId(request.path_params["id"])
        revoked = await self._doors.revoke_key(key_id, actor=key)
        self._limits.forget(key_id)
        return revoked

    async def _prices(self, request: Request, key: Key) -> Any:
        return await self._doors.prices()

    async def _add_price(self, request: Request, key: Key) -> Any:
        version = read_price(await self._guard.body(request), self._wall())
        return await self._doors.add_price(version, actor=key)

    async def _rates(self, request: Request, key: Key) -> Any:
        return await self._doors.rates()

    async def _add_rate(self, request: Request, key: Key) -> Any:
        version = read_rate(await self._guard.body(request), self._wall())
        return await self._doors.add_rate(version, actor=key)

    async def _audit(self, request: Request, key: Key) -> Any:
        check_query(request.query_params, "limit")
        limit = count(request.query_params, "limit", default=AUDIT_ROWS, most=MOST_AUDIT_ROWS)
        return await self._doors.audit_log(limit)

    async def _refresh(self, request: Request, key: Key) -> Any:
        refreshed = await self._doors.refresh()
        for known in await self._doors.keys(None):
            if known["revoked"]:
                self._limits.forget(known["id"])
        return refreshed
