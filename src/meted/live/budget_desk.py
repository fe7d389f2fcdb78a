"""The budget desk: reservations in this house's memory against what the store has leased to it.

The hot path asks only memory. Reservations die with the house that made them, and with them its
leases, so that nothing stays blocked after a crash.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meted.domain.budget import Budget, Window
from meted.domain.tenancy import Payer
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    Micros,
    NanoUSD,
    TransferId,
)
from meted.ledger.transfers import Balance, Short, Transfer
from meted.ledger.windows import window_of
from meted.live.budget_leases import BudgetLeases, InWriter
from meted.live.doors import BudgetGauge
from meted.live.store import Store

DAY_US = Micros(86_400_000_000)
KNOWN_PAYERS = 10_000


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
    """All budgets of the books, as one house uses them. Not shared between threads.

    on_money: whoever was told to ask again may do so now.
    """

    def __init__(
        self,
        *,
        store: Store,
        in_writer: InWriter,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        wall: Callable[[], Micros],
        on_money: Callable[[], None],
        on_alert: Callable[[Alert], None],
    ) -> None:
        self._wall = wall
        self._on_money = on_money
        self._on_alert = on_alert
        self._covering: dict[tuple[Payer, DeploymentName | None, int], tuple[Window, ...]] = {}
        self._alerted: dict[Window, int] = {}
        self._refusals: dict[BudgetName, int] = {}
        self._alerts: dict[BudgetName, int] = {}
        self._leases = BudgetLeases(
            store=store,
            in_writer=in_writer,
            spawn=spawn,
            wall=wall,
            on_money=on_money,
            on_stand=self._watch,
            on_forget=lambda window: self._alerted.pop(window, None),
        )
        self.transfers = self._leases.transfers

    # What the house asks.

    def windows(
        self, payer: Payer, deployment: DeploymentName | None, at: Micros
    ) -> tuple[Window, ...]:
        """The windows of all budgets that a charge to this payer at this moment counts in."""
        if not self._leases.budgets:
            return ()
        place = (payer, deployment, at // DAY_US)
        found = self._covering.get(place)
        if found is None:
            if len(self._covering) >= KNOWN_PAYERS:
                self._covering.clear()
            found = tuple(
                window_of(budget, at)
                for budget in self._leases.budgets.values()
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
                    return lack
        return None

    def reserve(
        self, transfer: TransferId, windows: tuple[Window, ...], amount: NanoUSD
    ) -> Transfer | NoMoney | None:
        """Set money aside before work begins; None: ask again after `on_money`.

        Budgets that are not in force any more have no part in it.
        """
        windows = tuple(window for window in windows if self._leases.in_force(window))
        unknown = [window for window in windows if not self.transfers.knows(window)]
        if unknown:
            for window in unknown:
                self._leases.want(window, amount)
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
        """The work has ended: charge this much of what was set aside. `written` follows."""
        posted = self.transfers.post(transfer, amount)
        if not posted.windows:
            return
        if amount:
            self._leases.posted(posted)
        for window in posted.windows:
            self._watch(window)
        self._on_money()

    def written(self, transfer: TransferId) -> None:
        """What was posted has been written: the store says from now on what came of it."""
        self._leases.written(transfer)

    def void(self, transfer: TransferId) -> None:
        """The work came to nothing: charge nothing."""
        voided = self.transfers.void(transfer)
        if voided.windows:
            self._on_money()

    def gauges(self) -> Sequence[BudgetGauge]:
        """The current windows of all budgets that this house has used."""
        now = self._wall()
        found: list[BudgetGauge] = []
        for budget in self._leases.budgets.values():
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
        self._covering.clear()
        self._leases.load(budgets)
        self._on_money()

    def tick(self) -> None:
        """Prolong the leases, let go what others lack and what is over, ask for what is missing."""
        self._leases.tick()

    def in_force(self, window: Window) -> bool:
        """Whether a window is one of a budget that this house knows to be in force."""
        return self._leases.in_force(window)

    # How windows stand.

    def _short(self, short: Short) -> NoMoney | None:
        lack = self._lack(short.window, short.wanted)
        if lack is not None and lack.gone:
            return lack
        self._leases.want(short.window, short.wanted)
        return None

    def _lack(self, window: Window, wanted: NanoUSD) -> NoMoney | None:
        budget = self._leases.held[window].budget
        if not budget.hard:
            return None
        gone = self._spent(window) + wanted > budget.limit
        return self._standing(window, wanted, gone=gone)

    def _standing(self, window: Window, wanted: NanoUSD, *, gone: bool) -> NoMoney:
        lease = self._leases.held[window]
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
                return self._standing(window, wanted, gone=False)
        return None

    def knows(self, windows: Iterable[Window]) -> bool:
        """Whether the store has said how these windows stand, as far as they are in force."""
        return all(self.transfers.knows(one) for one in windows if self._leases.in_force(one))

    def refuse(self, lack: NoMoney) -> None:
        """Somebody is told that there is no money: count it."""
        name = lack.budget.name
        self._refusals[name] = self._refusals.get(name, 0) + 1

    def _spent(self, window: Window) -> NanoUSD:
        """By all houses, as far as this one knows; its own part to the last posting."""
        lease = self._leases.held[window]
        mine = self.transfers.balance(window).posted
        return NanoUSD(lease.all_spent - lease.spent + mine)

    def _percent(self, window: Window) -> int:
        limit = self._leases.held[window].budget.limit
        return self._spent(window) * 100 // limit if limit else 0

    def _watch(self, window: Window, *, first: bool = False) -> None:
        """Alert where a threshold has been crossed. What had been reached before this house began
        was told by the one before it."""
        if first:
            self._alerted[window] = self._percent(window)
        lease = self._leases.held.get(window)
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
