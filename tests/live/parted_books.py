"""Random books with training in parts: what a house writes, and by itself what must be in a bill.

Jobs of several tenants, projects and keys train beside requests. Each charges by real `JobFunds`:
a charge bears the moment at which its part began, which may be hours before it is written.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from meted.domain.job import TrainingSpec
from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Price
from meted.domain.request import Outcome
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED, Meter
from meted.ledger.rates import ByCost, RateBook, RateCard, Rates, RateVersion, price_of_request
from meted.ledger.recovery import lost, recovered
from meted.ledger.split import largest_remainder
from meted.live.budget_desk import BudgetDesk
from meted.live.job_funds import JobFunds
from meted.live.pricing import Pricing
from meted.live.store import Batch, ChargeRow, RequestRow, Store

HOUR_US = 3_600_000_000
START = 480_000 * HOUR_US
"""A whole hour, in October 2024."""
DEVICES = 2
TENANTS = ("a", "b", "c")
WORDS = DeploymentName("words")
STEP = Account(kind=Kind.REQUEST, deployment=WORDS, note=IN_PROGRESS)
T = TypeVar("T")

Fate = Literal["ends", "crashes", "runs"]
Parts = tuple[str, str, str, str, str, str]
"""Kind, project, key, deployment, job and request, '' for none."""
Sums = tuple[int, int, int]
"""Device-nanoseconds, cost and price."""


@dataclass
class PartedBooks:
    """Several sessions of one house on one store, and all that they wrote."""

    store: Store
    rng: random.Random
    now: int = START
    sessions: int = 0
    requests: int = 0
    closed: list[Interval] = field(default_factory=list)
    rows: list[RequestRow] = field(default_factory=list)
    charges: list[ChargeRow] = field(default_factory=list)
    pricing: Pricing = field(init=False)

    def __post_init__(self) -> None:
        versions = [self._version(0)]
        versions += [self._version(START + i * HOUR_US) for i in range(self.rng.randrange(3))]
        for version in versions:
            self.store.add_rate(version)
        self.pricing = Pricing(RateBook(versions=tuple(versions)))

    def _version(self, effective: int) -> RateVersion:
        card = RateCard(input=7_001, cached_input=11, output=90_007, training=self._any(10**6))
        rates: Rates = ByCost(markup_permille=self._any(500)) if self._any(2) else card
        return RateVersion(effective=Micros(effective), recorded=Micros(effective), rates=rates)

    def _any(self, below: int) -> int:
        return self.rng.randrange(below)

    def session(self, *, intervals: int, fate: Fate) -> None:
        """So many intervals, and then what becomes of it; from a crash it is recovered at once."""
        self.sessions += 1
        run = _Session(self, f"s{self.sessions}")
        for _ in range(intervals):
            run.interval()
        match fate:
            case "crashes":
                run.crash()
                self._recover()
            case "ends":
                run.end()
            case "runs":
                pass
        self.now += self._any(HOUR_US)

    def _recover(self) -> None:
        crashed = self.store.crashed()
        closed = tuple(recovered(one.interval, one.suspended, one.acknowledged) for one in crashed)
        self.write(Batch(closed=closed))

    def write(self, batch: Batch) -> None:
        self.store.write(batch)
        self.closed += batch.closed
        self.rows += batch.requests
        self.charges += batch.charges

    def expected(
        self, tenant: str, from_us: int | None = None, to_us: int | None = None
    ) -> dict[Parts, Sums]:
        """What is a tenant's own in [from_us, to_us), straight from what was written."""
        sums: dict[Parts, list[int]] = defaultdict(lambda: [0, 0, 0])

        def inside(moment: int) -> bool:
            return (from_us is None or moment >= from_us) and (to_us is None or moment < to_us)

        def add(account: Account, *numbers: int) -> None:
            if account.tenant == tenant:
                held = sums[parts_of(account)]
                for index, number in enumerate(numbers):
                    held[index] += number

        for interval in self.closed:
            if inside(interval.started):
                for line in interval.lines:
                    add(line.account, line.device_nanos, line.amount)
        for row in self.rows:
            if inside(row.arrived):
                add(row.account, 0, 0, row.price)
        for charge in self.charges:
            if inside(charge.at):
                add(charge.account, 0, 0, charge.price)
        return {
            parts: (nanos, cost, price)
            for parts, (nanos, cost, price) in sums.items()
            if nanos or cost or price
        }

    def unsaved(self, tenant: str, to_us: int | None = None) -> int:
        """Training since a checkpoint, now and before a moment: the less of the two, summed up."""
        waits: dict[tuple[str, Account], list[int]] = defaultdict(lambda: [0, 0])
        for interval in self.closed:
            for line in interval.lines:
                if line.account.note == UNCHECKPOINTED and line.account.tenant == tenant:
                    held = waits[interval.session, line.account]
                    held[0] += line.device_nanos
                    if to_us is None or interval.started < to_us:
                        held[1] += line.device_nanos
        return sum(max(0, min(both)) for both in waits.values())

    def moments(self) -> list[int]:
        """Moments that decide: where intervals and parts begin and requests arrive, and beside."""
        found: set[int] = {one.started for one in self.closed}
        found |= {one.at for one in self.charges} | {one.arrived for one in self.rows}
        return sorted({moment + beside for moment in found for beside in (-1, 0, 1)})


def parts_of(account: Account) -> Parts:
    """What tells lines of a bill by everything apart."""
    return (
        *(str(account.kind), account.project or "", account.key or ""),
        *(account.deployment or "", account.job or "", account.request or ""),
    )


@dataclass
class _Trainer:
    """A job with its process. The process may be gone, and come again as another worker."""

    spec: TrainingSpec
    worker: str = ""
    lives: int = 0
    clock: int = 0
    loaded: bool = False

    @property
    def durable(self) -> Account:
        return Account(
            kind=Kind.TRAINING,
            tenant=self.spec.tenant,
            project=self.spec.project,
            key=self.spec.key or None,
            model=self.spec.base,
            job=self.spec.name,
        )

    @property
    def pending(self) -> Account:
        return replace(self.durable, note=UNCHECKPOINTED)

    @property
    def loading(self) -> Account:
        return replace(self.durable, kind=Kind.LOADING)


class _Session:
    def __init__(self, books: PartedBooks, name: str) -> None:
        self.books, self.rng, self.name = books, books.rng, name
        self.meter = Meter(
            session=name, devices=DEVICES, price=self._price(), started=Micros(books.now)
        )
        self.meter.open("engine", STEP)
        self.clock = 0
        self.running: dict[Account, int] = {}
        self.charges: list[ChargeRow] = []
        self.funds = JobFunds(
            session=name,
            wall=lambda: Micros(books.now),
            desk=_no_budgets(books.store, lambda: Micros(books.now)),
            pricing=books.pricing,
            devices=DEVICES,
            price=lambda: self.meter.price,
        )
        self.trainers = [_Trainer(spec) for spec in self._specs()]

    def _price(self) -> Price:
        return Price(nano_usd_per_device_hour=NanoUSD(self.rng.randrange(0, 10**8)))

    def _specs(self) -> Iterable[TrainingSpec]:
        for number in range(self.rng.randrange(1, 4)):
            tenant = self.rng.choice(TENANTS)
            yield TrainingSpec(
                # In every session anew; and houses do not know of each other's jobs' names.
                name=JobName(f"night-{number}"),
                base="m",
                data="corpus.txt",
                steps=10,
                tenant=TenantName(tenant),
                project=ProjectName(self.rng.choice(["x", "default"])),
                key=KeyId(self.rng.choice(["", f"key-{tenant}"])),
            )

    def interval(self) -> None:
        """Some minutes of work in several goes, and then a close."""
        books, rng = self.books, self.rng
        for _ in range(rng.randrange(1, 4)):
            length = rng.randrange(1_000_000, 1_500_000_000)
            began = books.now
            books.now += length
            users = 1 + len(self.trainers)
            spare = length * DEVICES * 1000 // users
            self._serve(began, rng.randrange(0, spare))
            for trainer in self.trainers:
                self._train(trainer, rng.randrange(0, spare))
            if rng.random() < 0.3:
                # Ends and charges are durable before their lines are.
                books.write(Batch(session=self.name, **self._ended(all_of_them=False)))
        ended = self._ended(all_of_them=False)
        closed = self.meter.close(Micros(books.now))
        books.write(Batch(session=self.name, closed=(closed,), **ended))
        if rng.random() < 0.2:
            self.meter.reprice(self._price())

    def _serve(self, began: int, used: int) -> None:
        self.clock += used
        for _ in range(self.rng.randrange(0, 3)):
            self.running[self._request()] = self.rng.randrange(began, self.books.now)
        covered = self.meter.covered("engine")
        until = self.rng.randrange(covered, self.clock + 1)
        if self.running:
            accounts = list(self.running)
            parts = largest_remainder(until - covered, [1] * len(accounts))
            shares = {one: DeviceNanos(part) for one, part in zip(accounts, parts, strict=True)}
            self.meter.charge("engine", DeviceNanos(until), shares)
        else:
            self.meter.cover("engine", DeviceNanos(until), lost(STEP))
        self.meter.read("engine", DeviceNanos(self.clock))

    def _request(self) -> Account:
        self.books.requests += 1
        tenant = self.rng.choice(TENANTS)
        return Account(
            kind=Kind.REQUEST,
            tenant=TenantName(tenant),
            project=ProjectName(self.rng.choice(["x", "default"])),
            key=KeyId(f"key-{tenant}"),
            deployment=WORDS,
            model="words-1m",
            request=RequestId(f"r{self.books.requests}"),
        )

    def _train(self, trainer: _Trainer, used: int) -> None:
        """A process starts, loads, trains on, is checkpointed, dies or is stopped."""
        meter, rng = self.meter, self.rng
        if not trainer.worker:
            if rng.random() < 0.5:
                return
            trainer.lives += 1
            trainer.worker, trainer.clock = f"{trainer.spec.name}/{trainer.lives}", 0
            meter.open(trainer.worker, trainer.loading)
            trainer.loaded = False
            assert self.funds.begin(trainer.spec) is None
        trainer.clock += used
        until = DeviceNanos(rng.randrange(meter.covered(trainer.worker), trainer.clock + 1))
        meter.cover(trainer.worker, until, trainer.pending if trainer.loaded else trainer.loading)
        meter.read(trainer.worker, DeviceNanos(trainer.clock))
        if not trainer.loaded and rng.random() < 0.6:
            trainer.loaded = True
            meter.turn(trainer.worker, trainer.pending)
        self._watch(trainer)
        fate = rng.random()
        if fate < 0.4:
            meter.move(trainer.pending, trainer.durable)
            self._charge(trainer)
            self._watch(trainer)
        elif fate < 0.6:
            self._process_ends(trainer, wanted=fate < 0.5)

    def _process_ends(self, trainer: _Trainer, *, wanted: bool) -> None:
        meter = self.meter
        meter.end(trainer.worker, DeviceNanos(trainer.clock), trainer.pending)
        trainer.worker = ""
        if wanted:
            meter.move(trainer.pending, trainer.durable)
            self._charge(trainer)
        else:
            meter.move(trainer.pending, lost(trainer.pending))
            self.funds.void(trainer.spec.name)

    def _chargeable(self, trainer: _Trainer) -> tuple[DeviceNanos, NanoUSD]:
        accounts = (trainer.durable, trainer.loading)
        return (
            DeviceNanos(sum(self.meter.used(one) for one in accounts)),
            NanoUSD(sum(self.meter.cost(one) for one in accounts)),
        )

    def _watch(self, trainer: _Trainer) -> None:
        used, cost = self._chargeable(trainer)
        used = DeviceNanos(used + self.meter.used(trainer.pending))
        cost = NanoUSD(cost + self.meter.cost(trainer.pending))
        assert self.funds.extend(trainer.spec, used, cost, running=0) is None

    def _charge(self, trainer: _Trainer) -> None:
        row = self.funds.charge(trainer.spec, trainer.durable, *self._chargeable(trainer))
        if row is not None:
            self.charges.append(row)

    def _ended(self, *, all_of_them: bool) -> dict[str, Any]:
        """Requests that end now, and charges that wait to be written."""
        rows: list[RequestRow] = []
        for account, arrived in list(self.running.items()):
            if not all_of_them and self.rng.random() < 0.4:
                continue
            del self.running[account]
            rows.append(self._end(account, arrived))
        charges, self.charges = tuple(self.charges), []
        return {"requests": tuple(rows), "charges": charges}

    def _end(self, account: Account, arrived: int) -> RequestRow:
        outcome = self.rng.choice([Outcome.DONE, Outcome.DONE, Outcome.FAILED])
        if outcome is Outcome.FAILED:
            self.meter.move(account, lost(account))
        cost = self.meter.cost(account)
        prompt, output = self.rng.randrange(1, 9_000), self.rng.randrange(0, 9_000)
        assert account.tenant is not None
        price = price_of_request(
            self.books.pricing.rates(account.tenant, account.deployment, Micros(arrived)),
            input_tokens=prompt,
            cached_tokens=0,
            output_tokens=output,
            cost=cost,
        )
        row = RequestRow(
            account=account,
            arrived=Micros(arrived),
            ended=Micros(self.books.now),
            outcome=outcome,
            prompt_tokens=prompt,
            cached_tokens=0,
            completion_tokens=output,
            ttft_us=500,
            device_nanos=self.meter.used(account),
            cost=cost,
            price=NanoUSD(0) if outcome is Outcome.FAILED else price,
        )
        self.meter.settle(account)
        self.meter.settle(lost(account))
        return row

    def end(self) -> None:
        """Everything ends; the last interval has all of it."""
        self.meter.end("engine", DeviceNanos(self.clock), lost(STEP))
        for trainer in self.trainers:
            if trainer.worker:
                self._process_ends(trainer, wanted=True)
        ended = self._ended(all_of_them=True)
        self.books.now += 60_000_000
        closed = [self.meter.close(Micros(self.books.now))]
        self.books.now += 1_000_000
        closed.append(self.meter.close(Micros(self.books.now)))
        self.books.write(Batch(session=self.name, closed=tuple(closed), **ended))

    def crash(self) -> None:
        """Killed with an open interval that was written."""
        self.books.now += 30_000_000
        ended = self._ended(all_of_them=False)
        opened = self.meter.provisional(Micros(self.books.now))
        self.books.write(Batch(session=self.name, open=opened, **ended))


def _no_budgets(store: Store, wall: Callable[[], Micros]) -> BudgetDesk:
    async def in_writer(work: Callable[[], T]) -> T:
        return work()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        work.close()

    return BudgetDesk(
        store=store,
        in_writer=in_writer,
        spawn=spawn,
        wall=wall,
        on_money=lambda: None,
        on_alert=lambda alert: None,
    )
