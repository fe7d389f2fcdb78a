"""Transfers: money set aside in budget windows, then charged or given back, each exactly once.

A reservation is a pending transfer from every window that covers a payer to the house. It ends in
exactly one of two ways: posted, which charges part of it and gives the rest back, or voided. Its id
is remembered afterwards, so that a late retry charges nothing. What a window has reserved and spent
is the sum of its transfers; together they never exceed what was granted.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from meted.domain.budget import Window
from meted.domain.units import Micros, NanoUSD, TransferId

REMEMBERED = 100_000


class TransferError(ValueError):
    """A transfer cannot be what was asked: which one, what it is, what was asked."""


class TransferState(StrEnum):
    """Where a transfer is in its life; the last two are final."""

    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """amount: reserved while pending, charged once posted, 0 once voided.

    expires: the moment from which a pending transfer is void unless it was prolonged; None: never.
    """

    id: TransferId
    windows: tuple[Window, ...]
    amount: NanoUSD
    state: TransferState
    expires: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How a window stands. granted None: without a limit (a soft budget)."""

    granted: NanoUSD | None
    posted: NanoUSD
    pending: NanoUSD

    @property
    def available(self) -> NanoUSD | None:
        if self.granted is None:
            return None
        return NanoUSD(self.granted - self.posted - self.pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Short:
    """Not enough in this window for `wanted` more; nothing has been set aside in any."""

    window: Window
    wanted: NanoUSD
    balance: Balance


@dataclass(slots=True)
class _Account:
    granted: int | None = 0
    posted: int = 0
    pending: int = 0


class Transfers:
    """The pending and posted transfers of one house, and what it was granted of each window.

    Law: posted + pending <= granted in every window with a limit, after every call. One owner:
    not shared between threads. Amounts are nano-USD, moments wall-clock micros.
    """

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._accounts: dict[Window, _Account] = {}
        self._pending: dict[TransferId, Transfer] = {}
        self._closed: OrderedDict[TransferId, Transfer] = OrderedDict()
        self._remembered = remembered

    # Windows.

    def grant(self, window: Window, granted: NanoUSD | None, *, posted: NanoUSD) -> None:
        """A window is known from now on; `posted` was charged to it before this owner began."""
        if window in self._accounts:
            raise TransferError(f"window {window} is known already; use `regrant`")
        if granted is not None and posted > granted:
            raise TransferError(
                f"window {window} is granted {granted} nano-USD but {posted} are spent already"
            )
        self._accounts[window] = _Account(granted, posted)

    def regrant(
        self, window: Window, granted: NanoUSD | None, *, posted: NanoUSD | None = None
    ) -> None:
        """Change what a window is granted. Raises TransferError below what is used of it.

        posted: what the books say was charged, where they know better than the transfers.
        """
        account = self._known(window)
        spent = account.posted if posted is None else posted
        if granted is not None and granted < spent + account.pending:
            raise TransferError(
                f"window {window} cannot be granted {granted} nano-USD: {spent} are "
                f"spent and {account.pending} reserved; void or settle transfers first"
            )
        account.granted, account.posted = granted, spent

    def forget(self, window: Window) -> None:
        """A window is over. Raises TransferError while money is reserved in it."""
        account = self._known(window)
        if account.pending:
            raise TransferError(f"window {window} has {account.pending} nano-USD reserved in it")
        del self._accounts[window]

    def knows(self, window: Window) -> bool:
        return window in self._accounts

    def balance(self, window: Window) -> Balance:
        """How a window stands. Raises TransferError if it is unknown."""
        account = self._known(window)
        return Balance(
            granted=None if account.granted is None else NanoUSD(account.granted),
            posted=NanoUSD(account.posted),
            pending=NanoUSD(account.pending),
        )

    def balances(self) -> Mapping[Window, Balance]:
        """All windows that are known."""
        return {window: self.balance(window) for window in self._accounts}

    # Transfers.

    def find(self, transfer: TransferId) -> Transfer | None:
        """A transfer by its id, also one that has ended, while it is remembered."""
        return self._pending.get(transfer) or self._closed.get(transfer)

    def reserve(
        self,
        transfer: TransferId,
        windows: tuple[Window, ...],
        amount: NanoUSD,
        *,
        expires: Micros | None = None,
    ) -> Transfer | Short:
        """Set `amount` aside in all windows, or in none of them.

        The same call again gives the same transfer. Raises TransferError for an id that means
        another transfer or one that has ended, and for a negative amount.
        """
        if amount < 0:
            raise TransferError(f"transfer {transfer!r} would reserve {amount}, expected 0 or more")
        known = self._pending.get(transfer) or self._closed.get(transfer)
        if known is not None:
            same = (known.windows, known.amount, known.state) == (
                windows,
                amount,
                TransferState.PENDING,
            )
            if same:
                return known
            raise TransferError(
                f"transfer {transfer!r} is {known.state} with {known.amount} nano-USD already; "
                f"it cannot be reserved with {amount}; use a new id"
            )
        short = self._take(windows, amount)
        if short is not None:
            return short
        made = Transfer(
            id=transfer,
            windows=windows,
            amount=amount,
            state=TransferState.PENDING,
            expires=expires,
        )
        self._pending[transfer] = made
        return made

    def resize(self, transfer: TransferId, amount: NanoUSD) -> Transfer | Short:
        """Make a pending transfer larger or smaller; larger in all its windows or in none."""
        pending = self._live(transfer, "resized")
        if amount < 0:
            raise TransferError(f"transfer {transfer!r} would reserve {amount}, expected 0 or more")
        more = amount - pending.amount
        if more > 0:
            short = self._take(pending.windows, NanoUSD(more))
            if short is not None:
                return short
        else:
            self._give(pending.windows, -more)
        self._pending[transfer] = resized = replace(pending, amount=amount)
        return resized

    def prolong(self, transfer: TransferId, expires: Micros | None) -> Transfer:
        """Its owner lives: a pending transfer is good until a later moment."""
        pending = self._live(transfer, "prolonged")
        self._pending[transfer] = later = replace(pending, expires=expires)
        return later

    def post(self, transfer: TransferId, amount: NanoUSD) -> Transfer:
        """Charge `amount` of what is reserved, and give the rest back. Once: the same call again
        gives the same transfer and charges nothing.

        Raises TransferError above what is reserved, for a transfer that is voided or unknown, and
        for one that was posted with another amount.
        """
        known = self._closed.get(transfer)
        if known is not None and (known.state, known.amount) == (TransferState.POSTED, amount):
            return known
        pending = self._live(transfer, f"posted with {amount} nano-USD")
        if not 0 <= amount <= pending.amount:
            raise TransferError(
                f"transfer {transfer!r} cannot be posted with {amount} nano-USD: expected 0 to "
                f"{pending.amount}, what it has reserved"
            )
        for window in pending.windows:
            account = self._accounts[window]
            account.pending -= pending.amount
            account.posted += amount
        return self._close(pending, TransferState.POSTED, amount)

    def void(self, transfer: TransferId) -> Transfer:
        """Give back all that is reserved. Once, as `post`."""
        known = self._closed.get(transfer)
        if known is not None and known.state is TransferState.VOIDED:
            return known
        pending = self._live(transfer, "voided")
        self._give(pending.windows, pending.amount)
        return self._close(pending, TransferState.VOIDED, NanoUSD(0))

    def expire(self, now: Micros) -> list[Transfer]:
        """Void the pending transfers whose owners have not prolonged them in time."""
        late = [
            one.id
            for one in self._pending.values()
            if one.expires is not None and one.expires <= now
        ]
        return [self.void(one) for one in late]

    def _take(self, windows: Iterable[Window], amount: NanoUSD) -> Short | None:
        for window in windows:
            account = self._known(window)
            if account.granted is None:
                continue
            if account.posted + account.pending + amount > account.granted:
                return Short(window=window, wanted=amount, balance=self.balance(window))
        for window in windows:
            self._accounts[window].pending += amount
        return None

    def _give(self, windows: Iterable[Window], amount: int) -> None:
        for window in windows:
            self._accounts[window].pending -= amount

    def _close(self, pending: Transfer, state: TransferState, amount: NanoUSD) -> Transfer:
        del self._pending[pending.id]
        closed = replace(pending, state=state, amount=amount, expires=None)
        self._closed[pending.id] = closed
        if len(self._closed) > self._remembered:
            self._closed.popitem(last=False)
        return closed

    def _live(self, transfer: TransferId, wish: str) -> Transfer:
        pending = self._pending.get(transfer)
        if pending is not None:
            return pending
        closed = self._closed.get(transfer)
        if closed is None:
            raise TransferError(f"transfer {transfer!r} is unknown and cannot be {wish}")
        raise TransferError(
            f"transfer {transfer!r} is {closed.state} with {closed.amount} nano-USD and cannot be "
            f"{wish}"
        )

    def _known(self, window: Window) -> _Account:
        account = self._accounts.get(window)
        if account is None:
            raise TransferError(f"window {window} is unknown; grant it first")
        return account
