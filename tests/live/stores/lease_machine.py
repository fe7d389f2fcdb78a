"""Leases against a simple model: houses lease, spend, give back, crash and die, budgets change."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meted.domain.budget import Budget, Period, Window
from meted.domain.line import Account, Kind
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    JobName,
    Micros,
    NanoUSD,
    TenantName,
    TransferId,
)
from meted.ledger.windows import window_of
from meted.live.store import Batch, ChargeRow, Lease, LeaseLostError, LeaseWish, RequestRow, Store
from meted.live.stores import open_database, open_store
from meted.live.stores.database import Database, Row
from meted.testing.store_rows import request_row

HOUR = 3_600_000_000
LIFE = 2 * HOUR
SCOPES = (None, DeploymentName("a"), DeploymentName("b"))
MONEY = st.integers(min_value=0, max_value=40)

_runs = itertools.count(1)
_clock = itertools.count(1_800_000_000_000_000, 10_000 * HOUR)


@dataclass
class Held:
    """What the model says that a house holds of a window."""

    granted: int = 0
    spent: int = 0
    closed: bool = False


@dataclass
class ModelWindow:
    """A window that has been leased, and whether its limit may have been exceeded by rights."""

    held: dict[str, Held] = field(default_factory=dict)
    outside: int = 0
    excused: bool = False

    def reserved(self) -> int:
        return self.outside + sum(
            one.spent if one.closed else one.granted for one in self.held.values()
        )

    def spent(self) -> int:
        return self.outside + sum(one.spent for one in self.held.values())


@dataclass(frozen=True)
class Posted:
    """A posting in the books."""

    deployment: DeploymentName | None
    at: int
    price: int


class LeaseMachine(RuleBasedStateMachine):
    """Each run has a tenant and houses of its own, and begins after all before are dead."""

    target: Callable[[], str]

    @initialize(houses=st.sampled_from([1, 2, 2, 3]), hard=st.booleans())
    def begin(self, houses: int, hard: bool) -> None:
        run = next(_runs)
        self.database: Database = open_database(self.target())
        self.tenant = TenantName(f"tenant-{run}")
        self.now = next(_clock)
        self.names = [f"house-{run}-{number}" for number in range(houses)]
        self.stores: dict[str, Store] = {
            name: open_store(self.target(), house=name) for name in self.names
        }
        self.alive_until: dict[str, int] = {}
        self.budgets: dict[BudgetName, Budget] = {}
        self.windows: dict[Window, ModelWindow] = {}
        self.posted: list[Posted] = []
        self.batches: list[tuple[str, Batch]] = []
        self.run = run
        self.numbers = itertools.count()
        for period in (Period.TOTAL, Period.DAY):
            self._make_budget(period.value, period=period, limit=100, hard=hard)
            hard = True

    # Budgets.

    @precondition(lambda self: len(self.budgets) < 3)
    @rule(
        scope=st.sampled_from(SCOPES),
        period=st.sampled_from([Period.DAY, Period.TOTAL]),
        limit=st.integers(min_value=0, max_value=150),
        hard=st.sampled_from([True, True, True, False]),
        data=st.data(),
    )
    def budget_is_made(
        self,
        scope: DeploymentName | None,
        period: Period,
        limit: int,
        hard: bool,
        data: st.DataObject,
    ) -> None:
        free = {"x", "y", "z"} - {name.rpartition("-")[2] for name in self.budgets}
        name = data.draw(st.sampled_from(sorted(free)))
        self._make_budget(name, period=period, limit=limit, hard=hard, scope=scope)

    def _make_budget(
        self,
        name: str,
        *,
        period: Period,
        limit: int,
        hard: bool,
        scope: DeploymentName | None = None,
    ) -> None:
        made = Budget(
            name=BudgetName(f"{self.run}-{name}"),
            tenant=self.tenant,
            deployment=scope,
            period=period,
            limit=NanoUSD(limit),
            hard=hard,
        )
        self.stores[self.names[-1]].save_budget(made)
        self.budgets[made.name] = made

    @precondition(lambda self: self.budgets)
    @rule(limit=st.integers(min_value=0, max_value=200), data=st.data())
    def limit_is_changed(self, limit: int, data: st.DataObject) -> None:
        old = self._any_budget(data)
        changed = replace(old, limit=NanoUSD(limit))
        self._any_store(data).save_budget(changed)
        self.budgets[old.name] = changed
        for window, model in self.windows.items():
            if window.budget == old.name and limit < old.limit:
                model.excused |= model.reserved() > limit

    @precondition(lambda self: len(self.budgets) > 2)
    @rule(data=st.data())
    def budget_is_removed(self, data: st.DataObject) -> None:
        gone = self._any_budget(data)
        self._any_store(data).remove_budget(gone.name)
        del self.budgets[gone.name]
        self.windows = {one: held for one, held in self.windows.items() if one.budget != gone.name}

    # Houses.

    @rule(elapsed=st.sampled_from([1, HOUR, LIFE + 1, 26 * HOUR]))
    def time_passes(self, elapsed: int) -> None:
        self.now += elapsed

    @rule(data=st.data(), granted=MONEY, least=MONEY, lets_go=st.booleans())
    def house_leases(self, data: st.DataObject, granted: int, least: int, lets_go: bool) -> None:
        house = data.draw(st.sampled_from(self.names))
        names = sorted(self.budgets)
        budgets = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        self._lease_windows(house, budgets, granted, least, lets_go=lets_go)

    @rule(data=st.data(), elapsed=st.sampled_from([0, 0, 1, HOUR, LIFE + 1]), least=MONEY)
    def all_houses_prolong(self, data: st.DataObject, elapsed: int, least: int) -> None:
        """As houses do it: all but one ask again for all they can get, of every budget."""
        self.now += elapsed
        dead = data.draw(st.sampled_from([None, *self.names]))
        for house in self.names:
            if house != dead:
                self._lease_windows(house, sorted(self.budgets), 10**6, least)

    def _lease_windows(
        self,
        house: str,
        budgets: list[BudgetName],
        granted: int,
        least: int,
        *,
        lets_go: bool = False,
    ) -> None:
        wishes = [
            LeaseWish(
                window=window_of(self.budgets[name], Micros(self.now)),
                granted=NanoUSD(granted),
                least=NanoUSD(min(least, granted)),
                used=NanoUSD(0) if lets_go else None,
            )
            for name in budgets
        ]
        leases = self._lease(house, wishes)
        assert [one.window for one in leases] == sorted(
            (wish.window for wish in wishes), key=lambda one: (one.budget, one.starts)
        )

    @rule(data=st.data())
    def house_gives_back(self, data: st.DataObject) -> None:
        house = data.draw(st.sampled_from(self.names))
        self._give_back(house)

    @rule(data=st.data())
    def house_crashes_and_begins_again(self, data: st.DataObject) -> None:
        house = data.draw(st.sampled_from(self.names))
        self.stores[house].close()
        self.stores[house] = open_store(self.target(), house=house)
        self.stores[house].reclaim()
        for window in self.windows.values():
            if house in window.held:
                self._close(window.held[house])

    # Postings.

    @rule(
        data=st.data(),
        price=MONEY,
        scope=st.sampled_from(SCOPES),
        request=st.booleans(),
        count=st.integers(min_value=1, max_value=3),
    )
    def house_charges(
        self,
        data: st.DataObject,
        price: int,
        scope: DeploymentName | None,
        request: bool,
        count: int,
    ) -> None:
        house = data.draw(st.sampled_from(self.names))
        covering = [
            window_of(one, Micros(self.now))
            for one in self.budgets.values()
            if one.deployment in (None, scope)
        ]
        # As houses do it: reserved wherever a budget covers; or not, if it is newer.
        reserved = data.draw(st.sampled_from([True, True, True, False]))
        named = tuple(one for one in covering if reserved or data.draw(st.booleans()))
        batch = Batch(
            session=f"session-{house}",
            requests=tuple(self._request(price, scope, named) for _ in range(count * request)),
            charges=tuple(self._charge(price, scope, named) for _ in range(count * (not request))),
        )
        affordable = all(self._affords(house, window, price * count) for window in named if price)
        try:
            self.stores[house].write(batch)
        except LeaseLostError:
            assert not affordable
            return
        assert affordable
        self.batches.append((house, batch))
        self.posted += [Posted(deployment=scope, at=self.now, price=price)] * count
        for window in covering:
            if window not in self.windows or not price:
                continue
            model = self.windows[window]
            held = model.held.get(house) if window in named else None
            if held is None:
                model.outside += price * count
                model.excused = True
            else:
                held.spent += price * count
                held.granted = max(held.granted, held.spent)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def batch_is_written_again(self, data: st.DataObject) -> None:
        house, batch = data.draw(st.sampled_from(self.batches))
        self.stores[house].write(batch)

    # What must hold.

    @invariant()
    def the_books_are_as_the_model_says(self) -> None:
        if not hasattr(self, "database"):
            return
        rows: dict[tuple[str, int], list[Row]] = {}
        for budget, starts, *rest in self._rows():
            rows.setdefault((budget, starts), []).append(tuple(rest))
        for window, model in self.windows.items():
            stored = rows.pop((window.budget, window.starts), [])
            found = {house: (granted, spent) for house, granted, spent in stored}
            outside = found.pop("", (0, 0))
            assert outside == (model.outside, model.outside)
            assert found == {house: (one.granted, one.spent) for house, one in model.held.items()}
            assert model.spent() == self._charged(window)
            budget = self.budgets[window.budget]
            if budget.hard and not model.excused:
                assert model.reserved() <= budget.limit
        assert not rows

    def teardown(self) -> None:
        """When all have given back, one house alone gets every nano-dollar that is not spent."""
        if not hasattr(self, "database"):
            return
        for house in self.names:
            self._give_back(house)
        house = self.names[0]
        self.now += 2 * LIFE
        for name, budget in sorted(self.budgets.items()):
            wish = LeaseWish(
                window=window_of(budget, Micros(self.now)),
                granted=NanoUSD(10**6),
                least=NanoUSD(0),
            )
            (lease,) = self._lease(house, [wish])
            if budget.hard:
                assert lease.granted - lease.spent == max(0, budget.limit - lease.all_spent)
            self.stores[house].remove_budget(name)
        for store in self.stores.values():
            store.close()
        self.database.close()

    # The model.

    def _lease(self, house: str, wishes: list[LeaseWish]) -> list[Lease]:
        until = self.now + LIFE
        leases = list(self.stores[house].lease(wishes, now=Micros(self.now), until=Micros(until)))
        self.alive_until[house] = until
        living = {one for one, moment in self.alive_until.items() if moment >= self.now}
        by_window = {wish.window: wish for wish in wishes}
        for lease in leases:
            self._check_lease(house, by_window[lease.window], lease, living)
        return leases

    def _check_lease(self, house: str, wish: LeaseWish, lease: Lease, living: set[str]) -> None:
        budget = self.budgets[wish.window.budget]
        if wish.window not in self.windows:
            opened = ModelWindow(outside=self._charged(wish.window))
            opened.excused = opened.outside > budget.limit
            self.windows[wish.window] = opened
        model = self.windows[wish.window]
        for name, other in model.held.items():
            if name not in living:
                self._close(other)
        mine = model.held.setdefault(house, Held())
        others = model.reserved() - (mine.spent if mine.closed else mine.granted)
        kept = max(mine.spent, min(wish.granted, mine.granted))
        left = budget.limit - others
        assert lease.budget == budget
        assert lease.spent == mine.spent
        assert lease.all_spent == model.spent()
        if not budget.hard:
            assert lease.granted == max(kept, wish.granted)
        elif len(living) == 1:
            assert lease.granted == max(kept, min(wish.granted, left))
        else:
            share = mine.spent + max(0, budget.limit - model.spent()) // len(living)
            if wish.used is None:
                assert lease.granted >= max(kept, min(wish.least, wish.granted, left))
            elif wish.least <= left:
                assert lease.granted >= wish.least
            assert lease.granted <= max(kept, min(wish.granted, left))
            assert lease.granted <= max(kept, wish.least, share)
        mine.granted, mine.closed = lease.granted, False
        assert lease.all_granted == model.reserved()

    def _give_back(self, house: str) -> None:
        held = [window for window in self.windows if house in self.windows[window].held]
        wishes = [LeaseWish(window=one, granted=NanoUSD(0), least=NanoUSD(0)) for one in held]
        for lease in self._lease(house, wishes):
            assert lease.granted == lease.spent

    def _affords(self, house: str, window: Window, price: int) -> bool:
        budget = self.budgets[window.budget]
        if not budget.hard:
            return True
        model = self.windows.get(window)
        held = model.held.get(house) if model else None
        return held is not None and held.spent + price <= held.granted

    @staticmethod
    def _close(held: Held) -> None:
        held.granted, held.closed = held.spent, True

    def _charged(self, window: Window) -> int:
        budget = self.budgets[window.budget]
        return sum(
            one.price
            for one in self.posted
            if budget.deployment in (None, one.deployment)
            and window_of(budget, Micros(one.at)) == window
        )

    # The real thing.

    def _rows(self) -> list[Row]:
        return self.database.read(
            lambda db: db.rows(
                "SELECT budget, starts, house, granted, spent FROM budget_leases"
                " WHERE budget LIKE ? ORDER BY budget, starts, house",
                f"{self.run}-%",
            )
        )

    def _request(
        self, price: int, scope: DeploymentName | None, named: tuple[Window, ...]
    ) -> RequestRow:
        row = request_row(0, 5, price=price, windows=named)
        account = replace(
            row.account,
            tenant=self.tenant,
            deployment=scope,
            request=f"{self.run}-{next(self.numbers)}",
        )
        return replace(row, account=account, arrived=Micros(self.now), ended=Micros(self.now))

    def _charge(
        self, price: int, scope: DeploymentName | None, named: tuple[Window, ...]
    ) -> ChargeRow:
        return ChargeRow(
            id=TransferId(f"{self.run}-{next(self.numbers)}"),
            account=Account(
                kind=Kind.TRAINING, tenant=self.tenant, deployment=scope, job=JobName("job")
            ),
            at=Micros(self.now),
            device_nanos=1,
            cost=NanoUSD(0),
            price=NanoUSD(price),
            windows=named,
        )

    def _any_store(self, data: st.DataObject) -> Store:
        return self.stores[data.draw(st.sampled_from(self.names))]

    def _any_budget(self, data: st.DataObject) -> Budget:
        return self.budgets[data.draw(st.sampled_from(sorted(self.budgets)))]
