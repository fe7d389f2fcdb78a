"""Random books for tests: a real meter and a real store, over hours, with all that can happen."""

import random
from dataclasses import dataclass, field

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
    TransferId,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED, Meter
from meted.ledger.recovery import lost, recovered
from meted.ledger.split import largest_remainder
from meted.live.store import Batch, ChargeRow, RequestRow, Store

HOUR_US = 3_600_000_000
START = 480_000 * HOUR_US
"""A whole hour, in October 2024."""
DEVICES = 2
JOB = JobName("night")
DEPLOYMENT = DeploymentName("words")
STEP = Account(kind=Kind.REQUEST, deployment=DEPLOYMENT, note=IN_PROGRESS)
DURABLE = Account(
    kind=Kind.TRAINING, tenant=TenantName("b"), project=ProjectName("default"), job=JOB
)
PENDING = Account(
    kind=Kind.TRAINING,
    tenant=TenantName("b"),
    project=ProjectName("default"),
    job=JOB,
    note=UNCHECKPOINTED,
)


@dataclass
class BooksMaker:
    """One house that runs one session after another on one store."""

    store: Store
    rng: random.Random
    now: int = START
    sessions: int = 0
    requests: int = 0
    parts: int = 0
    rows: list[RequestRow] = field(default_factory=list)
    charges: list[ChargeRow] = field(default_factory=list)

    def session(self, *, hours: float, crash: bool = False, at_rest: bool = False) -> None:
        """A session of so many hours that ends in order, or with kill -9.

        at_rest: no step or training is in progress when an interval closes.
        """
        self.sessions += 1
        run = _Session(self, f"s{self.sessions}", at_rest=at_rest)
        end = self.now + int(hours * HOUR_US)
        while self.now < end:
            run.interval()
        if crash:
            run.crash()
        else:
            run.end()
        self.now += self.rng.randrange(1, HOUR_US)

    def recover(self) -> None:
        """What a house does first: close what crashed sessions left open."""
        crashed = self.store.crashed()
        closed = tuple(recovered(one.interval, one.suspended, one.acknowledged) for one in crashed)
        if closed:
            self.store.write(Batch(closed=closed))
        assert not self.store.crashed()


class _Session:
    def __init__(self, maker: BooksMaker, name: str, *, at_rest: bool) -> None:
        self.maker, self.rng, self.name, self.at_rest = maker, maker.rng, name, at_rest
        self.meter = Meter(
            session=name, devices=DEVICES, price=self._price(), started=Micros(maker.now)
        )
        self.clocks = {"engine": 0, "trainer": 0}
        self.meter.open("engine", STEP)
        self.meter.open("trainer", PENDING)
        self.running: dict[Account, int] = {}
        self.charged = 0
        self.charged_cost = 0

    def _price(self) -> Price:
        return Price(nano_usd_per_device_hour=NanoUSD(self.rng.randrange(0, 10**8)))

    def interval(self) -> None:
        """Some minutes of work, then a close, and what ended since is written."""
        maker, rng = self.maker, self.rng
        length = rng.randrange(60_000_000, 1_500_000_000)
        began = maker.now
        maker.now += length
        spare = length * 1000
        for name in self.clocks:
            used = rng.randrange(0, spare)
            self.clocks[name] += used
            self._report(name, began)
        rows = self._end_some(all_of_them=False)
        charges = self._charge()
        closed = self.meter.close(Micros(maker.now))
        self.maker.store.write(
            Batch(session=self.name, closed=(closed,), requests=rows, charges=charges)
        )
        if rng.random() < 0.2:
            self.meter.reprice(self._price())

    def _report(self, name: str, began: int) -> None:
        clock, covered = self.clocks[name], self.meter.covered(name)
        until = clock if self.at_rest else self.rng.randrange(covered, clock + 1)
        if name == "trainer":
            self.meter.cover("trainer", DeviceNanos(until), PENDING)
            if self.at_rest or self.rng.random() < 0.5:
                self.meter.move(PENDING, DURABLE)
        else:
            for _ in range(self.rng.randrange(0, 3)):
                self.running[self._request()] = self.rng.randrange(began, self.maker.now)
            if self.running:
                accounts = list(self.running)
                parts = largest_remainder(until - covered, [1] * len(accounts))
                self.meter.charge(
                    "engine",
                    DeviceNanos(until),
                    {one: DeviceNanos(part) for one, part in zip(accounts, parts, strict=True)},
                )
            else:
                self.meter.cover("engine", DeviceNanos(until), lost(STEP))
        self.meter.read(name, DeviceNanos(clock))

    def _request(self) -> Account:
        self.maker.requests += 1
        tenant = self.rng.choice("ab")
        return Account(
            kind=Kind.REQUEST,
            tenant=TenantName(tenant),
            project=ProjectName(self.rng.choice(["x", "default"])),
            key=KeyId(f"key-{tenant}"),
            deployment=DEPLOYMENT,
            model="words-1m",
            request=RequestId(f"r{self.maker.requests}"),
        )

    def _end_some(self, *, all_of_them: bool) -> tuple[RequestRow, ...]:
        rows: list[RequestRow] = []
        for account, arrived in list(self.running.items()):
            if not all_of_them and self.rng.random() < 0.4:
                continue
            del self.running[account]
            outcome = self.rng.choice([Outcome.DONE, Outcome.DONE, Outcome.FAILED])
            if outcome is Outcome.FAILED:
                self.meter.move(account, lost(account))
            cost = self.meter.cost(account)
            rows.append(
                RequestRow(
                    account=account,
                    arrived=Micros(arrived),
                    ended=Micros(self.maker.now),
                    outcome=outcome,
                    prompt_tokens=self.rng.randrange(1, 9_000),
                    cached_tokens=0,
                    completion_tokens=self.rng.randrange(0, 9_000),
                    ttft_us=500,
                    device_nanos=self.meter.used(account),
                    cost=cost,
                    price=cost,
                )
            )
            self.meter.settle(account)
            self.meter.settle(lost(account))
        self.maker.rows += rows
        return tuple(rows)

    def _charge(self) -> tuple[ChargeRow, ...]:
        used, cost = self.meter.used(DURABLE), self.meter.cost(DURABLE)
        if used == self.charged or self.rng.random() < 0.3:
            return ()
        self.maker.parts += 1
        row = ChargeRow(
            id=TransferId(f"{JOB}/{self.maker.parts}"),
            account=DURABLE,
            at=Micros(self.maker.now),
            device_nanos=used - self.charged,
            cost=NanoUSD(cost - self.charged_cost),
            price=NanoUSD(cost - self.charged_cost),
        )
        self.charged, self.charged_cost = used, cost
        self.maker.charges.append(row)
        return (row,)

    def end(self) -> None:
        """Everything ends; the last interval has all of it."""
        for name, clock in self.clocks.items():
            self.meter.end(name, DeviceNanos(clock), lost(STEP if name == "engine" else PENDING))
        self.meter.move(PENDING, DURABLE)
        rows = self._end_some(all_of_them=True)
        self.maker.now += 60_000_000
        closed: list[Interval] = [self.meter.close(Micros(self.maker.now))]
        self.maker.now += 1_000_000
        closed.append(self.meter.close(Micros(self.maker.now)))
        self.maker.store.write(Batch(session=self.name, closed=tuple(closed), requests=rows))

    def crash(self) -> None:
        """Killed with an open interval that was written."""
        self.maker.now += 30_000_000
        rows = self._end_some(all_of_them=False)
        opened = self.meter.provisional(Micros(self.maker.now))
        self.maker.store.write(Batch(session=self.name, open=opened, requests=rows))
