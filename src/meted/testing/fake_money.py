"""Money and credentials of a fake house: the real `HouseMoney` over a store in memory."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from meted.domain.budget import Budget, Period, Window
from meted.domain.tenancy import DEFAULT_PROJECT, Payer
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    DeviceNanos,
    KeyId,
    Micros,
    NanoUSD,
    TenantName,
)
from meted.ledger.windows import window_of
from meted.live.books import Bill, BillRow, Dimension
from meted.live.budget_desk import NoMoney
from meted.live.doors import BudgetGauge, HouseError, Key, Submission, Usage
from meted.live.house_money import HouseMoney, bill_dimensions
from meted.live.money_views import bill_view
from meted.live.refusals import no_money
from meted.live.store import Store
from meted.testing.memory_store import CREATED, MemoryMoney

T = TypeVar("T")

TENANT_KEY = "mt-acme-0123456789abcdef"
OTHER_KEY = "mt-umbrella-0123456789abcdef"
ADMIN_KEY = "mt-root-0123456789abcdef"
REVOKED_KEY = "mt-gone-0123456789abcdef"
STARTED = Micros(1_760_000_000_000_000)
IDLE_NANOS = 1_000_000_000
IDLE_NANO_USD = 5_556

_KNOWN = {
    TENANT_KEY: ("acme", False),
    OTHER_KEY: ("umbrella", False),
    ADMIN_KEY: ("house", True),
    REVOKED_KEY: ("gone", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money of the windows that a request is covered by. tightest: the budget with least left."""

    windows: tuple[Window, ...]
    held: NanoUSD
    tightest: BudgetName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A request in the fake's books. key: the parts that a bill can be broken down by."""

    tenant: TenantName | None
    key: dict[str, str | None]
    device_nanos: DeviceNanos
    cost: NanoUSD
    price: NanoUSD


class FakeMoney(HouseMoney):
    """`HouseMoney` in memory, with budgets that are reserved and charged. wall_us: its clock."""

    def __init__(self) -> None:
        self.money = MemoryMoney()
        self.wall_us = STARTED
        self.charged: list[Charged] = []
        self.rereads = 0
        self._reserved: Counter[Window] = Counter()
        self._refusals: Counter[BudgetName] = Counter()
        self._alerted: set[tuple[Window, int]] = set()
        super().__init__(
            # Of a store only money and credentials are asked for here.
            store=cast(Store, self.money),
            in_writer=_at_once,
            books="",
            wall=lambda: self.wall_us,
            on_change=self._reread,
            gauges=self.budget_gauges,
        )
        for secret, (tenant, admin) in _KNOWN.items():
            self.money.add_key(
                Key(
                    id=KeyId(f"key-{tenant}"),
                    tenant=TenantName(tenant),
                    project=DEFAULT_PROJECT,
                    admin=admin,
                    name=tenant,
                    prefix=secret[:7],
                    created=CREATED,
                    revoked=secret == REVOKED_KEY,
                ),
                secret,
            )
        self._known: dict[str, Key | None] = {}
        self._known_version = -1

    def authenticate(self, bearer: str) -> Key | None:
        if self.money.version() != self._known_version:
            self._known_version = self.money.version()
            self._known.clear()
        if bearer not in self._known:
            found = self.money.find_key(bearer)
            self._known[bearer] = None if found is None or found.revoked else found
        return self._known[bearer]

    async def _reread(self) -> None:
        self.rereads += 1

    async def refresh(self) -> dict[str, Any]:
        await self._reread()
        return {"refreshed": True}

    # Budgets in memory.

    def hold(
        self, payer: Payer, deployment: DeploymentName, *, least: NanoUSD, most: NanoUSD
    ) -> Hold | None:
        """Reserve up to `most` in every budget that covers the request; None if none does.

        Raises HouseError (402, or 429 where others have it reserved) if one has less than `least`.
        """
        budgets = [one for one in self.money.budgets() if one.covers(payer, deployment)]
        if not budgets:
            return None
        held, tightest = most, None
        for budget in budgets:
            left = self._left(budget)
            if budget.hard and left < held:
                held, tightest = left, budget.name
            if budget.hard and left < least:
                self._refusals[budget.name] += 1
                raise no_money(self._lack(budget, least), now=self.wall_us)
        windows = tuple(window_of(budget, self.wall_us) for budget in budgets)
        for window in windows:
            self._reserved[window] += held
        return Hold(windows=windows, held=held, tightest=tightest)

    def settle_hold(self, hold: Hold | None, price: NanoUSD) -> None:
        """Charge what a request is charged, release the rest."""
        for window in hold.windows if hold is not None else ():
            assert hold is not None
            self._reserved[window] -= hold.held
            self.money.spent[window] += price
        if hold is not None:
            self._alert()

    def _alert(self) -> None:
        for budget in self.money.budgets():
            window = window_of(budget, self.wall_us)
            for percent in budget.alerts:
                if self.money.spent[window] * 100 >= budget.limit * percent:
                    self._alerted.add((window, percent))

    def _left(self, budget: Budget) -> NanoUSD:
        window = window_of(budget, self.wall_us)
        return NanoUSD(budget.limit - self.money.spent[window] - self._reserved[window])

    def _lack(self, budget: Budget, wanted: NanoUSD) -> NoMoney:
        window = window_of(budget, self.wall_us)
        return NoMoney(
            budget=budget,
            window=window,
            wanted=wanted,
            spent=NanoUSD(self.money.spent[window]),
            reserved=NanoUSD(self._reserved[window]),
            gone=self.money.spent[window] + wanted > budget.limit,
        )

    def broke(self, payer: Payer, *, gone: bool) -> HouseError:
        """What a house says whose budget is spent (402), or reserved by others (429)."""
        budget = Budget(
            name=BudgetName(f"{payer.tenant}-month"),
            tenant=payer.tenant,
            period=Period.MONTH,
            limit=NanoUSD(5_000_000_000),
        )
        return no_money(
            NoMoney(
                budget=budget,
                window=window_of(budget, self.wall_us),
                wanted=NanoUSD(1_000),
                spent=budget.limit if gone else NanoUSD(0),
                reserved=NanoUSD(0) if gone else budget.limit,
                gone=gone,
            ),
            now=self.wall_us,
        )

    def budget_gauges(self) -> Sequence[BudgetGauge]:
        gauges: list[BudgetGauge] = []
        for budget in self.money.budgets():
            window = window_of(budget, self.wall_us)
            gauges.append(
                BudgetGauge(
                    name=budget.name,
                    limit=budget.limit,
                    spent=NanoUSD(self.money.spent[window]),
                    reserved=NanoUSD(self._reserved[window]),
                    refusals=self._refusals[budget.name],
                    alerts=sum(1 for known, _ in self._alerted if known.budget == budget.name),
                )
            )
        return gauges

    # The fake's books: every request that ended, and a second in which the house stood idle.

    def charge(self, submission: Submission, model: str, usage: Usage) -> None:
        payer = submission.payer
        self.charged.append(
            Charged(
                tenant=payer.tenant,
                key={
                    "kind": "request",
                    "tenant": payer.tenant,
                    "project": payer.project,
                    "key": payer.key,
                    "deployment": submission.deployment,
                    "model": model,
                    "request": submission.request_id,
                    "hour": "2025-10-09T08:00Z",
                },
                device_nanos=usage.device_nanos,
                cost=usage.cost,
                price=usage.price,
            )
        )

    async def bill(
        self,
        *,
        by: Sequence[str],
        from_us: Micros | None,
        to_us: Micros | None,
        tenant: TenantName | None,
    ) -> dict[str, Any]:
        dimensions = bill_dimensions(by)
        idle = Charged(
            tenant=None,
            key={"kind": "idle"},
            device_nanos=DeviceNanos(IDLE_NANOS),
            cost=NanoUSD(IDLE_NANO_USD),
            price=NanoUSD(0),
        )
        begins = from_us is None or from_us <= STARTED
        counted = begins and (to_us is None or to_us > STARTED)
        lines = [
            one
            for one in (*self.charged, idle)
            if counted and (tenant is None or one.tenant == tenant)
        ]
        return bill_view(_bill(dimensions, lines))


async def _at_once(call: Callable[[], T]) -> T:
    return call()


def _bill(by: tuple[Dimension, ...], lines: Sequence[Charged]) -> Bill:
    nanos: Counter[tuple[str | None, ...]] = Counter()
    cost: Counter[tuple[str | None, ...]] = Counter()
    price: Counter[tuple[str | None, ...]] = Counter()
    for line in lines:
        key = tuple(line.key.get(str(dimension)) for dimension in by)
        nanos[key] += line.device_nanos
        cost[key] += line.cost
        price[key] += line.price
    return Bill(
        by=by,
        rows=tuple(
            BillRow(
                key=key,
                device_nanos=DeviceNanos(nanos[key]),
                nano_usd=NanoUSD(cost[key]),
                price=NanoUSD(price[key]),
            )
            for key in nanos
        ),
        intervals=1 if lines else 0,
        started=STARTED if lines else None,
        ended=Micros(STARTED + 1_000_000) if lines else None,
        device_nanos=DeviceNanos(sum(nanos.values())),
        nano_usd=NanoUSD(sum(cost.values())),
        price=NanoUSD(sum(price.values())),
    )
