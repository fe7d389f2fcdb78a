"""Laws of transfers, by a state machine whose plain journal is added up anew each time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from meted.domain.budget import Window
from meted.domain.units import BudgetName, Micros, NanoUSD, TransferId
from meted.ledger.transfers import Short, Transfer, TransferError, Transfers, TransferState

amounts = st.integers(0, 120).map(NanoUSD)
BUDGETS = ("day", "month", "soft")


def window(name: str) -> Window:
    return Window(budget=BudgetName(name), starts=Micros(0), ends=None)


class TransferMachine(RuleBasedStateMachine):
    """Reserves, resizes, posts, voids, expires and retries at random; the journal is the oracle."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.transfers = Transfers()
        self.granted: dict[Window, int | None] = {}
        self.before: dict[Window, int] = {}
        self.pending: dict[str, tuple[tuple[Window, ...], int, int | None]] = {}
        self.posted: dict[str, tuple[tuple[Window, ...], int]] = {}
        self.voided: set[str] = set()
        self.number = 0
        self.now = 0

    @initialize(data=st.data())
    def windows(self, data: st.DataObject) -> None:
        for name in BUDGETS:
            before = data.draw(st.integers(0, 50))
            granted = None if name == "soft" else data.draw(st.integers(before, 300))
            self.granted[window(name)] = granted
            self.before[window(name)] = before
            self.transfers.grant(
                window(name), None if granted is None else NanoUSD(granted), posted=NanoUSD(before)
            )

    def used(self, one: Window) -> tuple[int, int]:
        posted = self.before[one] + sum(n for ws, n in self.posted.values() if one in ws)
        pending = sum(n for ws, n, _ in self.pending.values() if one in ws)
        return posted, pending

    def fits(self, windows: tuple[Window, ...], more: int) -> bool:
        return all(
            (granted := self.granted[one]) is None or sum(self.used(one)) + more <= granted
            for one in windows
        )

    @rule(
        target=ids,
        names=st.sets(st.sampled_from(BUDGETS)),
        amount=amounts,
        life=st.one_of(st.none(), st.integers(1, 20)),
    )
    def reserve(self, names: set[str], amount: NanoUSD, life: int | None) -> str:
        self.number += 1
        one, windows = f"t{self.number}", tuple(window(name) for name in sorted(names))
        expires = None if life is None else Micros(self.now + life)
        fits = self.fits(windows, amount)
        made = self.transfers.reserve(TransferId(one), windows, amount, expires=expires)
        assert isinstance(made, Transfer) == fits
        if fits:
            self.pending[one] = (windows, amount, expires)
            again = self.transfers.reserve(TransferId(one), windows, amount, expires=expires)
            assert again == made
        return one

    @rule(one=ids, amount=amounts)
    def resize(self, one: str, amount: NanoUSD) -> None:
        if one not in self.pending:
            with pytest.raises(TransferError):
                self.transfers.resize(TransferId(one), amount)
            return
        windows, held, expires = self.pending[one]
        fits = amount <= held or self.fits(windows, amount - held)
        resized = self.transfers.resize(TransferId(one), amount)
        assert isinstance(resized, Short) != fits
        if fits:
            self.pending[one] = (windows, amount, expires)

    @rule(one=ids, amount=amounts)
    def post(self, one: str, amount: NanoUSD) -> None:
        if one in self.pending and amount <= self.pending[one][1]:
            windows, _, _ = self.pending.pop(one)
            assert self.transfers.post(TransferId(one), amount).state is TransferState.POSTED
            self.posted[one] = (windows, amount)
        elif one in self.posted and self.posted[one][1] == amount:
            assert self.transfers.post(TransferId(one), amount).amount == amount
        else:
            with pytest.raises(TransferError):
                self.transfers.post(TransferId(one), amount)

    @rule(one=ids)
    def void(self, one: str) -> None:
        if one in self.pending or one in self.voided:
            self.pending.pop(one, None)
            self.voided.add(one)
            assert self.transfers.void(TransferId(one)).state is TransferState.VOIDED
        else:
            with pytest.raises(TransferError):
                self.transfers.void(TransferId(one))

    @rule(one=ids)
    def late_retry(self, one: str) -> None:
        """An id that has ended never reserves again."""
        if one in self.posted or one in self.voided:
            with pytest.raises(TransferError):
                self.transfers.reserve(TransferId(one), (window("day"),), NanoUSD(1))

    @rule(step=st.integers(1, 10))
    def expire(self, step: int) -> None:
        self.now += step
        late = {
            one for one, (_, _, at) in self.pending.items() if at is not None and at <= self.now
        }
        assert {one.id for one in self.transfers.expire(Micros(self.now))} == late
        for one in late:
            del self.pending[one]
            self.voided.add(one)

    @rule(name=st.sampled_from(BUDGETS[:2]), granted=st.integers(0, 400))
    def regrant(self, name: str, granted: int) -> None:
        one = window(name)
        if granted < sum(self.used(one)):
            with pytest.raises(TransferError):
                self.transfers.regrant(one, NanoUSD(granted))
        else:
            self.transfers.regrant(one, NanoUSD(granted))
            self.granted[one] = granted

    @invariant()
    def balances_are_the_journal(self) -> None:
        for one, granted in self.granted.items():
            balance = self.transfers.balance(one)
            assert (balance.posted, balance.pending) == self.used(one)
            assert granted is None or balance.posted + balance.pending <= granted

    @invariant()
    def each_transfer_is_in_one_state(self) -> None:
        for one in self.pending:
            found = self.transfers.find(TransferId(one))
            assert found is not None
            assert found.state is TransferState.PENDING
        assert not set(self.posted) & self.voided


TestTransfers = TransferMachine.TestCase
TestTransfers.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_ended_ids_are_forgotten_oldest_first_beyond_the_bound() -> None:
    transfers = Transfers(remembered=2)
    for name in ("a", "b", "c"):
        transfers.reserve(TransferId(name), (), NanoUSD(0))
        transfers.void(TransferId(name))
    assert transfers.find(TransferId("a")) is None
    assert transfers.find(TransferId("c")) is not None
