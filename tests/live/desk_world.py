"""Houses that share a real store, as far as their money goes; a test decides who does what when.

Each house has one writer, in which its calls run in order, and one loop, which hears of them later.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from meted.domain.budget import Budget, Window
from meted.domain.tenancy import Payer
from meted.domain.units import BudgetName, Micros, NanoUSD, TransferId
from meted.ledger.transfers import Transfer
from meted.ledger.windows import window_of
from meted.live.budget_desk import Alert, BudgetDesk, NoMoney
from meted.live.store import Batch, ChargeRow, LeaseLostError
from meted.live.stores import open_store
from meted.testing.store_rows import KEY, START, TENANT, TRAINING

T = TypeVar("T")
PAYER = Payer(tenant=TENANT, key=KEY)


@dataclass(slots=True, eq=False)
class _Call:
    """A call on its way through the writer."""

    work: Callable[[], Any]
    done: bool = False
    result: Any = None
    error: Exception | None = None

    def __await__(self) -> Generator["_Call", None, Any]:
        yield self
        if self.error is not None:
            raise self.error
        return self.result

    def run(self) -> None:
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error
        self.done = True


class World:
    """The books, the time and the houses."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "books.sqlite"
        self.now = Micros(START)
        self.books = open_store(self.path, house="nobody")
        self.houses: dict[str, House] = {}

    def house(self, name: str) -> "House":
        """A house begins, or begins again after a crash."""
        made = self.houses[name] = House(self, name)
        return made

    def pass_seconds(self, seconds: float) -> None:
        self.now = Micros(self.now + round(seconds * 1e6))

    def save(self, budget: Budget) -> Window:
        """A budget is made or changed; houses know of it once they read again."""
        self.books.save_budget(budget)
        return window_of(budget, self.now)

    def reread(self) -> None:
        for house in self.houses.values():
            house.desk.load(self.books.budgets())

    def ticks(self, count: int = 1) -> None:
        """So many quarters of a second pass, and all that follows from them."""
        for _ in range(count):
            self.pass_seconds(0.25)
            for house in list(self.houses.values()):
                house.tick()
            self.settle()

    def settle(self) -> None:
        """Until nobody has anything left to do."""
        busy = True
        while busy:
            steps = [house.step() for house in list(self.houses.values())]
            busy = any(steps)

    def spent(self, budget: str = "b") -> int:
        (found,) = [one for one in self.books.standings(now=self.now) if one.budget.name == budget]
        return found.all_spent

    def held(self, budget: str = "b") -> int:
        (found,) = [one for one in self.books.standings(now=self.now) if one.budget.name == budget]
        return found.all_granted

    def close(self) -> None:
        self.books.close()
        for house in self.houses.values():
            house.store.close()


class House:
    """A desk with its writer, and the work that it has set money aside for."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.store = open_store(world.path, house=name)
        self.store.reclaim()
        self.money_came = False
        self.alerts: list[Alert] = []
        self.calls: deque[_Call] = deque()
        self.tasks: dict[_Call, Coroutine[Any, Any, None]] = {}
        self.waiting: dict[str, tuple[tuple[Window, ...], int]] = {}
        self.running: set[str] = set()
        self.refused: dict[str, NoMoney] = {}
        self.charged: dict[str, int] = {}
        self.unwritten: dict[str, int] = {}
        self.spooling = False
        self.desk = BudgetDesk(
            store=self.store,
            in_writer=self.in_writer,
            spawn=self.spawn,
            wall=lambda: world.now,
            on_money=self._money,
            on_alert=self.alerts.append,
        )
        self.store.all_written = lambda: not self.spooling  # type: ignore[method-assign]
        self.desk.load(self.store.budgets())

    # What an event loop and a writer's thread are in a real house.

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._resume(work)

    async def in_writer(self, call: Callable[[], T]) -> T:
        return await _Call(call)

    def _resume(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            call = work.send(None)
        except StopIteration:
            return
        self.tasks[call] = work
        self.calls.append(call)

    def write_one(self) -> bool:
        """The writer runs the oldest call that it has not run yet."""
        call = next((one for one in self.calls if not one.done), None)
        if call is not None:
            call.run()
        return call is not None

    def hear_one(self) -> bool:
        """The loop hears of the oldest call that was run."""
        if not self.calls or not self.calls[0].done:
            return False
        call = self.calls.popleft()
        self._resume(self.tasks.pop(call))
        return True

    def look_if_money_came(self) -> bool:
        """What the loop does right after it heard of money."""
        came, self.money_came = self.money_came, False
        if came:
            self.look()
        return came

    def step(self) -> bool:
        heard = self.hear_one()
        looked = self.look_if_money_came()
        return self.write_one() or heard or looked

    def _money(self) -> None:
        self.money_came = True

    def tick(self) -> None:
        self.desk.tick()

    def crash(self) -> None:
        """kill -9: what was written stays, all else is gone."""
        for work in self.tasks.values():
            work.close()
        self.tasks.clear()
        self.calls.clear()
        self.store.close()
        del self.world.houses[self.name]

    # Work that costs money.

    def ask(self, name: str, amount: int) -> None:
        """Work begins once its worst case is set aside."""
        windows = self.desk.windows(PAYER, None, self.world.now)
        lack = self.desk.hopeless(windows, NanoUSD(amount))
        if lack is not None:
            self.desk.refuse(lack)
            self.refused[name] = lack
        elif windows:
            self.waiting[name] = (windows, amount)
            self.look()

    def look(self) -> None:
        """Who waits asks again, in turn; nobody passes the first."""
        while self.waiting:
            name, (windows, amount) = next(iter(self.waiting.items()))
            made = self.desk.reserve(TransferId(name), windows, NanoUSD(amount))
            if made is None:
                return
            del self.waiting[name]
            if isinstance(made, NoMoney):
                self.desk.refuse(made)
                self.refused[name] = made
            else:
                self.running.add(name)

    def end(self, name: str, amount: int) -> None:
        """Work ends and is charged, durably once its row has been written."""
        found = self.desk.transfers.find(TransferId(name))
        assert isinstance(found, Transfer)
        self.running.remove(name)
        self.desk.post(TransferId(name), NanoUSD(amount))
        self.unwritten[name] = amount
        row = ChargeRow(
            id=TransferId(name),
            account=replace(TRAINING, key=KEY),
            at=self.world.now,
            device_nanos=1,
            cost=NanoUSD(0),
            price=NanoUSD(amount),
            windows=found.windows,
        )
        self.spawn(self._enter(row))
        self.look()

    async def _enter(self, row: ChargeRow) -> None:
        price = await self.in_writer(lambda: self._written(row))
        self.charged[row.id] = price
        self.desk.written(row.id)

    def _written(self, row: ChargeRow) -> int:
        del self.unwritten[row.id]
        try:
            self.store.write(Batch(session=self.name, charges=(row,)))
        except LeaseLostError:
            free = replace(row, price=NanoUSD(0), windows=())
            self.store.write(Batch(session=self.name, charges=(free,)))
            return 0
        return row.price

    def give_up(self, name: str) -> None:
        """Work comes to nothing."""
        self.running.remove(name)
        self.desk.void(TransferId(name))
        self.look()


def budget_of(world: World, name: str = "b") -> Budget:
    return next(one for one in world.books.budgets() if one.name == BudgetName(name))
