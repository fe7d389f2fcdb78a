"""Leases of budgets' windows: how a house asks the store for money, and gives it back.

A window is leased before its first use, in slices where other houses live on the same books, so
that all houses together never hold more than its limit. Whoever lacks money says so with every
tick, and whoever has some to spare gives it back then.

What this house has posted is what the store says and what it has not been told yet; so that a
charge that the store refused, because its lease was lost, does not count for ever.
"""

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from meted.domain.budget import Budget, Window
from meted.domain.units import MICROS_PER_SECOND, BudgetName, Micros, NanoUSD, TransferId
from meted.ledger.transfers import Transfer, Transfers
from meted.ledger.windows import window_of
from meted.live.store import Lease, LeaseWish, Store, StoreDownError, StoreError

log = logging.getLogger(__name__)

LEASE_US = 30 * MICROS_PER_SECOND
SOFT = NanoUSD(0)
"""A soft budget is granted whatever is asked; it asks for nothing."""

T = TypeVar("T")


class InWriter(Protocol):
    """Runs a call in the thread that alone writes to the store, in order with the postings.

    Who awaits it goes on before whoever awaits a later call.
    """

    def __call__(self, call: Callable[[], T], /) -> Coroutine[Any, Any, T]: ...


class Watch(Protocol):
    """Is told how a window stands anew. first: it was not known before."""

    def __call__(self, window: Window, *, first: bool) -> None: ...


class BudgetLeases:
    """What one house holds of the windows that it uses. `transfers` are made within that.

    on_money: there is more than before for who asks again. on_stand, on_forget: a window stands
    anew, or is known no longer. held: the leases, by window.
    """

    def __init__(
        self,
        *,
        store: Store,
        in_writer: InWriter,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        wall: Callable[[], Micros],
        on_money: Callable[[], None],
        on_stand: Watch,
        on_forget: Callable[[Window], object],
    ) -> None:
        self._store = store
        self._in_writer = in_writer
        self._spawn = spawn
        self._wall = wall
        self._on_money = on_money
        self._on_stand = on_stand
        self._on_forget = on_forget
        self._wanted: dict[Window, int] = {}
        self._lacking: set[Window] = set()
        self._unwritten: dict[TransferId, Transfer] = {}
        self._asking = False
        self.budgets: dict[BudgetName, Budget] = {}
        self.held: dict[Window, Lease] = {}
        self.transfers = Transfers()

    def load(self, budgets: Sequence[Budget]) -> None:
        """The budgets in force from now on; reservations under removed ones run out."""
        self.budgets = {budget.name: budget for budget in budgets}
        self._let_go()
        self._want_more(self.held)

    def tick(self) -> None:
        """Prolong the leases, let go what others lack and what is over, ask for what is missing."""
        self._let_go()
        self._want_more(self.held)
        if self._lacking:
            # Who still lacks money says so until the next tick, and what nobody lacks goes back.
            self._lacking.clear()
            self._on_money()

    def in_force(self, window: Window) -> bool:
        """Whether a window is one of a budget that this house knows to be in force."""
        budget = self.budgets.get(window.budget)
        return budget is not None and window_of(budget, window.starts) == window

    def want(self, window: Window, amount: NanoUSD) -> None:
        """`amount` more is needed in a window: now, or if it was not to be had, with the tick."""
        self._wanted[window] = max(self._wanted.get(window, 0), amount)
        if window not in self._lacking:
            self._want_more(())

    def posted(self, transfer: Transfer) -> None:
        """This has been posted here; the store knows of it once it is `written`."""
        self._unwritten[transfer.id] = transfer

    def written(self, transfer: TransferId) -> None:
        """What was posted has been written: the store says from now on what came of it."""
        self._unwritten.pop(transfer, None)

    def _let_go(self) -> None:
        """Forget the windows that are over, or whose budget is not in force any more."""
        now = self._wall()
        for window in list(self.held):
            over = window.ends is not None and window.ends + LEASE_US < now
            balance = self.transfers.balance(window)
            in_use = balance.pending > 0
            if (over or not self.in_force(window)) and not in_use:
                self._forget(window)
            elif not self.in_force(window):
                # What runs under a budget that was removed is not held up by it.
                self.transfers.regrant(window, None)
            elif balance.granted is None and self.budgets[window.budget].hard:
                # Made anew: nothing of it is granted yet but what is in use.
                self.transfers.regrant(window, NanoUSD(balance.posted + balance.pending))

    def _want_more(self, windows: Iterable[Window]) -> None:
        for window in windows:
            self._wanted.setdefault(window, 0)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask())

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
        budget, needed = self.budgets[window.budget], self._wanted[window]
        if not budget.hard:
            return LeaseWish(window=window, granted=SOFT, least=SOFT)
        if not self.transfers.knows(window):
            return LeaseWish(window=window, granted=budget.limit, least=NanoUSD(needed))
        balance = self.transfers.balance(window)
        used = NanoUSD(balance.posted + balance.pending)
        others_lack = self.held[window].wanted > 0
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
        self.held[window] = lease
        self._on_stand(window, first=first)
        now = self.transfers.balance(window).available
        if now is None or self._wanted.get(window, 0) <= now:
            # Who asked meanwhile, while this was held back, takes it now.
            self._wanted.pop(window, None)
        return first or (before is not None and (now is None or now > before))

    def _forget(self, window: Window) -> None:
        self.transfers.forget(window)
        del self.held[window]
        self._lacking.discard(window)
        self._on_forget(window)
