"""The budget desk: reservations in this house's memory against what the store has leased to it.

The hot path asks only memory. A window is leased from the store before its first use, in slices
where other houses live on the same books, so that all houses together never hold more than its
limit; what others lack is given back on the next tick. Reservations die with the house that made
them, and with them its leases, so that nothing stays blocked after a crash.

What this house has posted is what the store says and what it has not been told yet; so that a
charge that the store refused, because its lease was lost, does not count for ever.
"""

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

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
from meted.live.store import Lease, LeaseWish, Store, StoreDownError, StoreError

log = logging.getLogger(__name__)

LEASE_US = 30 * MICROS_PER_SECOND
DAY_US = 86_400 * MICROS_PER_SECOND
KNOWN_PAYERS = 10_000
SOFT = NanoUSD(0)
"""A soft budget is granted whatever is asked; it asks for nothing."""

T = TypeVar("T")


class InWriter(Protocol):
    """Runs a call in the thread that alone writes to the store, in order with the postings.

    Who awaits it goes on before whoever awaits a later call.
    """

    def __call__(self, call: Callable[[], T], /) -> Coroutine[Any, Any, T]: ...


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
        self._lacking: set[Window] = set()
        self._unwritten: dict[TransferId, Transfer] = {}
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
                    return lack
        return None

    def reserve(
        self, transfer: TransferId, windows: tuple[Window, ...], amount: NanoUSD
    ) -> Transfer | NoMoney | None:
        """Set money aside before work begins; None: ask again after `on_money`.

        Budgets that are not in force any more have no part in it.
        """
        windows = tuple(window for window in windows if self.in_force(window))
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
        """The work has ended: charge this much of what was set aside. `written` follows."""
        posted = self.transfers.post(transfer, amount)
        if not posted.windows:
            return
        if amount:
            self._unwritten[transfer] = posted
        for window in posted.windows:
            self._watch(window)
        self._on_money()

    def written(self, transfer: TransferId) -> None:
        """What was posted has been written: the store says from now on what came of it."""
        self._unwritten.pop(transfer, None)

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
        self._let_go()
        self._want_more(self._leases)
        self._on_money()

    def tick(self) -> None:
        """Prolong the leases, let go what others lack and what is over, ask for what is missing."""
        self._let_go()
        self._want_more(self._leases)
        if self._lacking:
            # Who still lacks money says so until the next tick, and what nobody lacks goes back.
            self._lacking.clear()
            self._on_money()

    def _let_go(self) -> None:
        """Forget the windows that are over, or whose budget is not in force any more."""
        now = self._wall()
        for window in list(self._leases):
            over = window.ends is not None and window.ends + LEASE_US < now
            balance = self.transfers.balance(window)
            in_use = balance.pending > 0
            if (over or not self.in_force(window)) and not in_use:
                self._forget(window)
            elif not self.in_force(window):
                # What runs under a budget that was removed is not held up by it.
                self.transfers.regrant(window, None)
            elif balance.granted is None and self._budgets[window.budget].hard:
                # Made anew: nothing of it is granted yet but what is in use.
                self.transfers.regrant(window, NanoUSD(balance.posted + balance.pending))

    def in_force(self, window: Window) -> bool:
        """Whether a window is one of a budget that this house knows to be in force."""
        budget = self._budgets.get(window.budget)
        return budget is not None and window_of(budget, window.starts) == window

    def _want_more(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self._wanted.setdefault(window, 0)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask())

    def _want(self, window: Window, amount: NanoUSD) -> None:
        """`amount` more is needed in a window: now, or if it was not to be had, with the tick."""
        self._wanted[window] = max(self._wanted.get(window, 0), amount)
        if window not in self._lacking:
            self._want_more(())

    async def _ask(self) -> None:
        """Ask the store for all that is wanted, again as long as there is more."""
        needy: set[Window] = set()
        try:
            while True:
                wishes = [wish for window in self._wanted if (wish := self._wish(window))]
                needy = {window for window, needed in self._wanted.items() if needed}
                self._wanted.clear()
                if await self._lease(wishes):
                    self._on_money()
                if not any(map(self._urgent, self._wanted)):
                    return
        except StoreDownError as error:
            self._lacking |= needy
            log.warning("leases are not prolonged: %s", error)
        finally:
            self._asking = False

    def _urgent(self, window: Window) -> bool:
        """Whether somebody waits for a window that was not asked for in vain just now."""
        needed = self._wanted[window] > 0 or not self.transfers.knows(window)
        return needed and window not in self._lacking

    async def _lease(self, wishes: Sequence[LeaseWish]) -> bool:
        """Ask once; True if there is more money than before for somebody who may want it."""
        now = self._wall()
        until = Micros(now + LEASE_US)

        def in_store() -> tuple[Sequence[Lease], bool]:
            try:
                leases = self._store.lease(wishes, now=now, until=until)
            except StoreDownError:
                raise
            except StoreError:
                # Another house has made a budget anew, which this one is about to read.
                leases = self._store.lease(self._still_right(wishes), now=now, until=until)
            return leases, self._store.all_written()

        leases, exact = await self._in_writer(in_store)
        least = {wish.window: wish.least for wish in wishes}
        come = False
        for lease in leases:
            come |= self._take(lease, exact=exact)
            if lease.budget.hard and lease.granted < least.get(lease.window, 0):
                self._lacking.add(lease.window)
        return come

    def _still_right(self, wishes: Sequence[LeaseWish]) -> Sequence[LeaseWish]:
        """Those wishes whose windows are windows of the budgets that the store has now."""
        budgets = {budget.name: budget for budget in self._store.budgets()}
        return [
            wish
            for wish in wishes
            if (budget := budgets.get(wish.window.budget)) is not None
            and window_of(budget, wish.window.starts) == wish.window
        ]

    def _wish(self, window: Window) -> LeaseWish | None:
        """All that is left if nobody else lacks it; what is in use and needed if somebody does."""
        if not self.in_force(window):
            return None
        budget, needed = self._budgets[window.budget], self._wanted[window]
        if not budget.hard:
            return LeaseWish(window=window, granted=SOFT, least=SOFT)
        if not self.transfers.knows(window):
            return LeaseWish(window=window, granted=budget.limit, least=NanoUSD(needed))
        balance = self.transfers.balance(window)
        used = NanoUSD(balance.posted + balance.pending)
        others_lack = self._leases[window].wanted > 0
        least = NanoUSD(used + needed)
        granted = least if others_lack and not needed else max(budget.limit, least)
        # Held back here first: nobody may reserve what is on its way back to the store, or what
        # was without a limit and is not granted yet.
        held = used if others_lack or balance.granted is None else max(granted, used)
        if balance.granted is None or held < balance.granted:
            self.transfers.regrant(window, held)
        return LeaseWish(
            window=window, granted=granted, least=least, used=used if others_lack else None
        )

    def _take(self, lease: Lease, *, exact: bool) -> bool:
        """Use a lease from now on; True if there is more money in it than before.

        exact: its `spent` has all of this house's postings but those that are unwritten.
        """
        window = lease.window
        granted = lease.granted if lease.budget.hard else None
        posted = lease.spent + sum(
            one.amount for one in self._unwritten.values() if window in one.windows
        )
        first = not self.transfers.knows(window)
        if first:
            before = 0
            if granted is not None:
                granted = max(granted, NanoUSD(posted))
            self.transfers.grant(window, granted, posted=NanoUSD(posted))
        else:
            balance = self.transfers.balance(window)
            before = balance.available
            if not exact:
                posted = balance.posted
            if granted is not None:
                granted = max(granted, NanoUSD(posted + balance.pending))
            self.transfers.regrant(window, granted, posted=NanoUSD(posted))
        self._leases[window] = lease
        if first:
            # What had been reached before this house began was told by the one before it.
            self._alerted[window] = self._percent(window)
        self._watch(window)
        now = self.transfers.balance(window).available
        if now is None or self._wanted.get(window, 0) <= now:
            # Who asked meanwhile, while this was held back, takes it now.
            self._wanted.pop(window, None)
        return first or (before is not None and (now is None or now > before))

    def _forget(self, window: Window) -> None:
        self.transfers.forget(window)
        del self._leases[window]
        self._alerted.pop(window, None)
        self._lacking.discard(window)

    # How windows stand.

    def _short(self, short: Short) -> NoMoney | None:
        lack = self._lack(short.window, short.wanted)
        if lack is not None and lack.gone:
            return lack
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
                return self._standing(window, wanted, gone=False)
        return None

    def knows(self, windows: Iterable[Window]) -> bool:
        """Whether the store has said how these windows stand, as far as they are in force."""
        return all(self.transfers.knows(one) for one in windows if self.in_force(one))

    def refuse(self, lack: NoMoney) -> None:
        """Somebody is told that there is no money: count it."""
        name = lack.budget.name
        self._refusals[name] = self._refusals.get(name, 0) + 1

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
