"""Laws of the budget desk: several houses on one real store, in any order, with crashes.

What houses hold never exceeds the limit; what is spent is what was charged, once; and after all
work has ended, whoever asks for all that is left gets it within a few ticks.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from desk_world import House, World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meted.domain.units import BudgetName, NanoUSD
from meted.testing.store_rows import budget

NAMES = ("a", "b", "c")
TICKS_UNTIL_MONEY_COMES = 8
LEASE_S = 31.0
names = st.sampled_from(NAMES)
amounts = st.integers(1, 60)
LIMIT = 100


class DeskMachine(RuleBasedStateMachine):
    """One budget, three houses; the journal of what their clients were told is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.budget = budget("b", LIMIT)
        self.world.save(self.budget)
        self.highest = LIMIT
        self.number = 0
        self.charged: dict[str, int] = {}
        self.in_touch = True
        """No lease has run out, and no budget was made anew."""
        for name in NAMES:
            self.world.house(name)

    def alive(self, name: str) -> House:
        return self.world.houses.get(name) or self.world.house(name)

    def note(self) -> None:
        """What was charged so far, as houses were told when it was durable."""
        for house in self.world.houses.values():
            self.charged |= house.charged

    # What tenants do.

    @rule(name=names, amount=amounts)
    def ask(self, name: str, amount: int) -> None:
        self.number += 1
        self.alive(name).ask(f"t{self.number}", amount)

    @rule(name=names, data=st.data())
    def end(self, name: str, data: st.DataObject) -> None:
        house = self.alive(name)
        if house.running:
            one = data.draw(st.sampled_from(sorted(house.running)))
            reserved = house.desk.transfers.find(one)
            assert reserved is not None
            house.end(one, data.draw(st.integers(0, reserved.amount)))

    @rule(name=names, data=st.data())
    def give_up(self, name: str, data: st.DataObject) -> None:
        house = self.alive(name)
        if house.running:
            house.give_up(data.draw(st.sampled_from(sorted(house.running))))

    # What happens in and to houses.

    @rule(name=names)
    def tick(self, name: str) -> None:
        self.world.pass_seconds(0.1)
        self.alive(name).tick()

    @rule(name=names, count=st.integers(1, 4))
    def go_on(self, name: str, count: int) -> None:
        house = self.alive(name)
        for _ in range(count):
            house.step()

    @rule(name=names)
    def write(self, name: str) -> None:
        self.alive(name).write_one()

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule()
    def ticks(self) -> None:
        self.world.ticks()

    @rule(name=names)
    def crash(self, name: str) -> None:
        self.note()
        if name in self.world.houses:
            self.world.houses[name].crash()

    @rule(seconds=st.sampled_from([5.0, LEASE_S]))
    def stand_still(self, seconds: float) -> None:
        """All houses are out of touch with the store, e.g. because the machine was asleep."""
        self.in_touch = False
        self.world.pass_seconds(seconds)

    # What an admin does.

    @rule(limit=st.integers(0, 2 * LIMIT), reread=st.booleans())
    def change(self, limit: int, reread: bool) -> None:
        self.budget = replace(self.budget, limit=NanoUSD(limit))
        self.highest = max(self.highest, limit)
        self.world.save(self.budget)
        if reread:
            self.world.reread()

    @rule()
    def reread(self) -> None:
        self.world.reread()

    @rule(reread=st.booleans())
    @precondition(lambda self: self.world.books.budgets())
    def make_anew(self, reread: bool) -> None:
        self.in_touch = False
        self.world.books.remove_budget(BudgetName("b"))
        if reread:
            self.world.reread()
        self.world.save(self.budget)

    # Laws.

    @invariant()
    def houses_hold_no_more_than_the_limit_ever_was(self) -> None:
        (standing,) = self.world.books.standings(now=self.world.now)
        outside = max(0, standing.all_spent - self.highest)
        assert standing.all_granted <= self.highest + outside
        assert standing.all_spent <= standing.all_granted

    @invariant()
    def no_house_thinks_it_has_less_than_nothing(self) -> None:
        for house in self.world.houses.values():
            for window, balance in house.desk.transfers.balances().items():
                if house.desk.in_force(window):
                    assert balance.available is not None and balance.available >= 0
                assert balance.posted >= 0 and balance.pending >= 0

    @invariant()
    def a_house_knows_what_it_has_spent_and_takes_no_more_than_it_was_granted(self) -> None:
        if not self.in_touch:
            return
        for house in self.world.houses.values():
            (lease,) = house.store.standings(now=self.world.now)
            for balance in house.desk.transfers.balances().values():
                assert balance.posted == lease.spent + sum(house.unwritten.values())
                assert balance.granted is not None
                used = balance.posted + balance.pending
                assert used <= lease.granted
                assert balance.granted <= max(lease.granted, used)

    def teardown(self) -> None:
        try:
            for name in NAMES:
                self.alive(name)
            self.world.reread()
            self.world.settle()
            self.world.ticks(2)
            self.end_all_work()
            self.all_that_is_left_can_be_had_by_each()
        finally:
            self.world.close()
            self.folder.cleanup()

    def end_all_work(self) -> None:
        for _ in range(200):
            busy = [house for house in self.world.houses.values() if house.running or house.waiting]
            if not busy:
                break
            for house in busy:
                for one in sorted(house.running):
                    house.end(one, 1)
            self.world.ticks(2)
        assert not [one for house in self.world.houses.values() for one in house.waiting]
        self.world.ticks(2)
        self.note()
        for house in self.world.houses.values():
            for balance in house.desk.transfers.balances().values():
                assert balance.pending == 0
        assert self.world.spent() >= sum(self.charged.values()), "told is charged"

    def all_that_is_left_can_be_had_by_each(self) -> None:
        left = self.budget.limit - self.world.spent()
        if left <= 0:
            return
        for name in NAMES:
            house = self.world.houses[name]
            house.ask(f"all by {name}", left)
            for _ in range(TICKS_UNTIL_MONEY_COMES):
                self.world.ticks()
            assert house.running == {f"all by {name}"}, (house.waiting, house.refused, left)
            house.give_up(f"all by {name}")


TestDesks = DeskMachine.TestCase
TestDesks.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
