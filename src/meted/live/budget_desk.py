"""The budget desk: reservations in this house's memory against what the store has leased to it.

The hot path asks only memory. A window is leased from the store before its first use, in slices
where other houses live on the same books, so that all houses together never hold more than its
limit; what others lack is given back on the next tick. Reservations die with the house that made
them, and with them its leases, so that nothing stays blocked after a crash.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from meted.domain.budget import Budget, Window
from meted.domain.tenancy import Payer
from meted.domain.units import (
    MICROS_PER_SECOND,
    BudgetName,
    DeploymentName,
    Micros,
    NanoUSD,
    TransferId,
)
from meted.ledger.transfers import Balance, Short, Transfer, Transfers
from meted.ledger.windows import window_of
from meted.live.doors import BudgetGauge
from meted.live.store import Lease, LeaseWish, Store, StoreDownError

log = logging.getLogger(__name__)

LEASE_US = 30 * MICROS_PER_SECOND
DAY_US = 86_400 * MICROS_PER_SECOND
KNOWN_PAYERS = 10_000
SOFT = NanoUSD(0)
"""A soft budget is granted whatever is asked; it asks for nothing."""

T = TypeVar("T")
InWriter = Callable[[Callable[[], T]], Awaitable[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMoney:
    """Why a window cannot give `wanted`. gone: it is spent, waiting within the window is no use;
    otherwise it is reserved by others that may use less, or leased to another house."""

    budget: Budget
    window: Window
    wanted: NanoUSD
    spent: NanoUSD
    reserved: NanoUSD
    gone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A budget has reached a threshold, in per cent of its limit."""

    budget: Budget
    window: Window
    threshold: int
    spent: NanoUSD


class BudgetDesk:
    """All budgets of the books, as one house uses them. Not shared between threads."""

    def __init__(
        self,
        *,
        store: Store,
        in_writer: Callable[[Callable[[], Any]], Awaitable[Any]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        wall: Callable[[], Micros],
        on_money: Callable[[], None],
        on_alert: Callable[[Alert], None],
    ) -> None:
        self._store = store
        self._in_writer = in_writer
        self._spawn = spawn
        self._wall = wall
        self._on_money = on_money
        self._on_alert = on_alert
        self._budgets: dict[BudgetName, Budget] = {}
        self._covering: dict[tuple[Payer, DeploymentName | None, int], tuple[Window, ...]] = {}
        self._leases: dict[Window, Lease] = {}
        self._wanted: dict[Window, int] = {}
        self._asking = False
        self._alerted: dict[Window, int] = {}
        self._refusals: dict[BudgetName, int] = {}
        self._alerts: dict[BudgetName, int] = {}
        self.transfers = Transfers()

    # What the house asks.

    def windows(
        self, payer: Payer, deployment: DeploymentName | None, at: Micros
    ) -> tuple[Window, ...]:
        """The windows of all budgets that a charge to this payer at this moment counts in."""
        if not self._budgets:
            return ()
        place = (payer, deployment, at // DAY_US)
        found = self._covering.get(place)
        if found is None:
            if len(self._covering) >= KNOWN_PAYERS:
                self._covering.clear()
            found = tuple(
                window_of(budget, at)
                for budget in self._budgets.values()
                if budget.covers(payer, deployment)
            )
            self._covering[place] = found
        return found

    def hopeless(self, windows: Iterable[Window], amount: NanoUSD) -> NoMoney | None:
        """A window that is spent so far that this amount will not fit in it any more."""
        for window in windows:
            if self.transfers.knows(window):
                lack = self._lack(window, amount)
                if lack is not None and lack.gone:
                    return self._refused(lack)
        return None

    def reserve(
        self, transfer: TransferId, windows: tuple[Window, ...], amount: NanoUSD
    ) -> Transfer | NoMoney | None:
        """Set money aside before work begins; None: ask again after `on_money`."""
        unknown = [window for window in windows if not self.transfers.knows(window)]
        if unknown:
            for window in unknown:
                self._want(window, amount)
            return None
        made = self.transfers.reserve(transfer, windows, amount)
        if isinstance(made, Short):
            return self._short(made)
        return made

    def resize(self, transfer: TransferId, amount: NanoUSD) -> Transfer | NoMoney:
        """Set more aside for work that goes on, or less for work that turned out smaller."""
        before = self.transfers.find(transfer)
        made = self.transfers.resize(transfer, amount)
        if isinstance(made, Short):
            return self._short(made) or self._standing(made.window, made.wanted, gone=False)
        if before is not None and amount < before.amount and before.windows:
            self._on_money()
        return made

    def post(self, transfer: TransferId, amount: NanoUSD) -> None:
        """The work has ended: charge this much of what was set aside."""
        posted = self.transfers.post(transfer, amount)
        for window in posted.windows:
            self._watch(window)
        if posted.windows:
            self._on_money()

    def void(self, transfer: TransferId) -> None:
        """The work came to nothing: charge nothing."""
        voided = self.transfers.void(transfer)
        if voided.windows:
            self._on_money()

    def gauges(self) -> Sequence[BudgetGauge]:
        """The current windows of all budgets that this house has used."""
        now = self._wall()
        found: list[BudgetGauge] = []
        for budget in self._budgets.values():
            window = window_of(budget, now)
            known = self.transfers.knows(window)
            found.append(
                BudgetGauge(
                    name=budget.name,
                    limit=budget.limit,
                    spent=self._spent(window) if known else NanoUSD(0),
                    reserved=self.transfers.balance(window).pending if known else NanoUSD(0),
                    refusals=self._refusals.get(budget.name, 0),
                    alerts=self._alerts.get(budget.name, 0),
                )
            )
        return found

    # The store.

    def load(self, budgets: Sequence[Budget]) -> None:
        """The budgets in force from now on; reservations under removed ones run out."""
        self._budgets = {budget.name: budget for budget in budgets}
        self._covering.clear()
        for window in list(self._leases):
            if window.budget not in self._budgets and not self.transfers.balance(window).pending:
                self._forget(window)
        self._want_more(self._leases)
        self._on_money()

    def tick(self) -> None:
        """Prolong the leases, let go what others lack and what is over, ask for what is missing."""
        now = self._wall()
        for window in list(self._leases):
            over = window.ends is not None and window.ends + LEASE_US < now
            if over and not self.transfers.balance(window).pending:
                self._forget(window)
        self._want_more(self._leases)

    def _want_more(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self._wanted.setdefault(window, 0)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask())

    def _want(self, window: Window, amount: NanoUSD) -> None:
        """`amount` more is needed in a window now."""
        self._wanted[window] = max(self._wanted.get(window, 0), amount)
        self._want_more(())

    async def _ask(self) -> None:
        """Ask the store for all that is wanted, again as long as there is more."""
        try:
            while True:
                wishes = [wish for window in self._wanted if (wish := self._wish(window))]
                self._wanted.clear()
                now = self._wall()
                until = Micros(now + LEASE_US)
                leases: Sequence[Lease] = await self._in_writer(
                    lambda wishes=wishes, now=now, until=until: self._store.lease(
                        wishes, now=now, until=until
                    )
                )
                for lease in leases:
                    self._take(lease)
                self._on_money()
                if not any(self._wanted.values()):
                    return
        except StoreDownError as error:
            log.warning("leases are not prolonged: %s", error)
        finally:
            self._asking = False

    def _wish(self, window: Window) -> LeaseWish | None:
        """All that is left if nobody else lacks it; what is in use and needed if somebody does."""
        budget = self._budgets.get(window.budget)
        if budget is None:
            return None
        needed = self._wanted[window]
        if not budget.hard:
            return LeaseWish(window=window, granted=SOFT, least=SOFT)
        if not self.transfers.knows(window):
            return LeaseWish(window=window, granted=budget.limit, least=NanoUSD(needed))
        balance = self.transfers.balance(window)
        used = balance.posted + balance.pending
        lease = self._leases[window]
        if lease.wanted > 0 and not needed:
            # Held back here first: nobody may reserve what is on its way back to the store.
            self.transfers.regrant(window, NanoUSD(used))
            return LeaseWish(window=window, granted=NanoUSD(used), least=NanoUSD(used))
        least = NanoUSD(used + needed)
        return LeaseWish(window=window, granted=max(budget.limit, least), least=least)

    def _take(self, lease: Lease) -> None:
        window = lease.window
        granted = lease.granted if lease.budget.hard else None
        first = not self.transfers.knows(window)
        if first:
            self.transfers.grant(window, granted, posted=lease.spent)
        elif granted is not None:
            balance = self.transfers.balance(window)
            self.transfers.regrant(window, max(granted, NanoUSD(balance.posted + balance.pending)))
        self._leases[window] = lease
        if first:
            # What had been reached before this house began was told by the one before it.
            self._alerted[window] = self._percent(window)
        self._watch(window)

    def _forget(self, window: Window) -> None:
        self.transfers.forget(window)
        del self._leases[window]
        self._alerted.pop(window, None)

    # How windows stand.

    def _short(self, short: Short) -> NoMoney | None:
        lack = self._lack(short.window, short.wanted)
        if lack is not None and lack.gone:
            return self._refused(lack)
        self._want(short.window, short.wanted)
        return None

    def _lack(self, window: Window, wanted: NanoUSD) -> NoMoney | None:
        budget = self._leases[window].budget
        if not budget.hard:
            return None
        gone = self._spent(window) + wanted > budget.limit
        return self._standing(window, wanted, gone=gone)

    def _standing(self, window: Window, wanted: NanoUSD, *, gone: bool) -> NoMoney:
        lease = self._leases[window]
        mine: Balance = self.transfers.balance(window)
        others = max(0, lease.all_granted - lease.granted - (lease.all_spent - lease.spent))
        return NoMoney(
            budget=lease.budget,
            window=window,
            wanted=wanted,
            spent=self._spent(window),
            reserved=NanoUSD(mine.pending + others),
            gone=gone,
        )

    def waiting(self, windows: Iterable[Window], wanted: NanoUSD) -> NoMoney | None:
        """The window that a reservation waits for, for those who wait no longer."""
        for window in windows:
            if not self.transfers.knows(window):
                continue
            available = self.transfers.balance(window).available
            if available is not None and available < wanted:
                return self._refused(self._standing(window, wanted, gone=False))
        return None

    def _refused(self, lack: NoMoney) -> NoMoney:
        name = lack.budget.name
        self._refusals[name] = self._refusals.get(name, 0) + 1
        return lack

    def _spent(self, window: Window) -> NanoUSD:
        """By all houses, as far as this one knows; its own part to the last posting."""
        lease = self._leases[window]
        mine = self.transfers.balance(window).posted
        return NanoUSD(lease.all_spent - lease.spent + mine)

    def _percent(self, window: Window) -> int:
        limit = self._leases[window].budget.limit
        return self._spent(window) * 100 // limit if limit else 0

    def _watch(self, window: Window) -> None:
        lease = self._leases.get(window)
        if lease is None:
            return
        reached, told = self._percent(window), self._alerted.get(window, 0)
        crossed = [one for one in lease.budget.alerts if told < one <= reached]
        if crossed:
            self._alerted[window] = reached
            name = lease.budget.name
            self._alerts[name] = self._alerts.get(name, 0) + len(crossed)
            self._on_alert(
                Alert(
                    budget=lease.budget,
                    window=window,
                    threshold=max(crossed),
                    spent=self._spent(window),
                )
            )
