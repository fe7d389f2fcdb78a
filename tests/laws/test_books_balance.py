"""Conservation: whatever happens, every interval's lines are its capacity, in time and money."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Price
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    RequestId,
    TenantName,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED, Meter
from meted.ledger.money import amount
from meted.ledger.recovery import Suspended, lost, recovered
from meted.ledger.split import largest_remainder

DEVICES = 2
JOB = Account(kind=Kind.TRAINING, tenant=TenantName("t"), job=JobName("j"), note=UNCHECKPOINTED)
DURABLE = Account(kind=Kind.TRAINING, tenant=TenantName("t"), job=JobName("j"))
ENGINE = Account(kind=Kind.REQUEST, deployment=DeploymentName("d"), note=IN_PROGRESS)


def request(number: int) -> Account:
    return Account(kind=Kind.REQUEST, tenant=TenantName("t"), request=RequestId(f"r{number}"))


class Books(RuleBasedStateMachine):
    """Workers burn time, report late or never, die; intervals close at any moment."""

    @initialize(price=st.integers(min_value=0, max_value=10**13))
    def begin(self, price: int) -> None:
        self.price = Price(nano_usd_per_device_hour=NanoUSD(price))
        self.now = 1_000_000
        self.meter = Meter(session="s", devices=DEVICES, price=self.price, started=Micros(self.now))
        self.clocks: dict[str, int] = {}
        self.covered: dict[str, int] = {}
        self.born = 0
        self.burnt_by_dead = 0
        self.requests: dict[int, bool] = {}
        self.intervals: list[Interval] = []

    def _open(self, kind: str, residual: Account) -> None:
        self.born += 1
        name = f"{kind}{self.born}"
        self.meter.open(name, residual)
        self.clocks[name] = self.covered[name] = 0

    @rule()
    def engine_starts(self) -> None:
        self._open("engine", ENGINE)

    @rule()
    def trainer_starts(self) -> None:
        self._open("trainer", JOB)

    @rule(elapsed=st.integers(min_value=0, max_value=3_000_000), data=st.data())
    def time_passes(self, elapsed: int, data: st.DataObject) -> None:
        """Workers together use at most what there is, plus the skew between clock readings."""
        self.now += elapsed
        left = elapsed * 1000 * DEVICES + 5_000
        for name in self.clocks:
            used = data.draw(st.integers(min_value=0, max_value=left))
            self.clocks[name] += used
            left -= used

    @precondition(lambda self: self.clocks)
    @rule(data=st.data())
    def house_reads_a_clock(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.clocks)))
        self.meter.read(name, DeviceNanos(self.clocks[name]))

    @precondition(lambda self: any(name.startswith("engine") for name in self.clocks))
    @rule(data=st.data(), batch=st.integers(min_value=1, max_value=4))
    def engine_reports_a_step(self, data: st.DataObject, batch: int) -> None:
        names = [name for name in sorted(self.clocks) if name.startswith("engine")]
        name = data.draw(st.sampled_from(names))
        until = data.draw(st.integers(min_value=self.covered[name], max_value=self.clocks[name]))
        numbers = [len(self.requests) + i for i in range(batch)]
        self.requests.update(dict.fromkeys(numbers, False))
        parts = largest_remainder(until - self.covered[name], [1.0] * batch)
        self.meter.charge(
            name,
            DeviceNanos(until),
            {request(n): DeviceNanos(p) for n, p in zip(numbers, parts, strict=True)},
        )
        self.covered[name] = until

    @precondition(lambda self: any(name.startswith("trainer") for name in self.clocks))
    @rule(data=st.data(), durable=st.booleans())
    def trainer_reports(self, data: st.DataObject, durable: bool) -> None:
        names = [name for name in sorted(self.clocks) if name.startswith("trainer")]
        name = data.draw(st.sampled_from(names))
        self.meter.cover(name, DeviceNanos(self.clocks[name]), JOB)
        self.covered[name] = self.clocks[name]
        if durable:
            self.meter.move(JOB, DURABLE)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), fails=st.booleans())
    def request_ends(self, data: st.DataObject, fails: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.requests)))
        if self.requests[number]:
            return
        self.requests[number] = True
        if fails:
            self.meter.move(request(number), lost(request(number)))
        self.meter.settle(request(number))

    @precondition(lambda self: self.clocks)
    @rule(data=st.data())
    def worker_is_killed(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.clocks)))
        dead = JOB if name.startswith("trainer") else lost(ENGINE)
        self.burnt_by_dead += self.clocks[name]
        self.meter.end(name, DeviceNanos(self.clocks.pop(name)), dead)
        del self.covered[name]
        if dead is JOB:
            self.meter.move(JOB, lost(JOB))

    @rule()
    def interval_closes(self) -> None:
        provisional = self.meter.provisional(Micros(self.now))
        closed = self.meter.close(Micros(self.now))
        assert provisional == closed
        self.intervals.append(closed)

    @rule()
    def house_is_killed(self) -> None:
        """What the store would hold after a crash now also balances, with nothing suspended."""
        last = self.meter.provisional(Micros(self.now))
        sums: dict[Account, list[int]] = defaultdict(lambda: [0, 0])
        for interval in (*self.intervals, last):
            for line in interval.lines:
                if line.account.note in (IN_PROGRESS, UNCHECKPOINTED):
                    sums[line.account][0] += line.device_nanos
                    sums[line.account][1] += line.amount
        suspended = [
            Suspended(
                account=account,
                device_nanos=DeviceNanos(sums[account][0]),
                amount=NanoUSD(sums[account][1]),
            )
            for account in sums
        ]
        check([*self.intervals, recovered(last, suspended)], self.price)

    def teardown(self) -> None:
        """Once all clocks are read and there was time to post, not a nanosecond is missing."""
        if not hasattr(self, "meter"):
            return
        for name, clock in self.clocks.items():
            self.meter.read(name, DeviceNanos(clock))
        self.now += 3_600_000_000
        self.intervals.append(self.meter.close(Micros(self.now)))
        check(self.intervals, self.price)
        used = sum(
            line.device_nanos
            for interval in self.intervals
            for line in interval.lines
            if line.account.kind is not Kind.IDLE
        )
        assert used == sum(self.clocks.values()) + self.burnt_by_dead

    @invariant()
    def every_closed_interval_balances(self) -> None:
        check(self.intervals, self.price)


def check(intervals: list[Interval], price: Price) -> None:
    capacity = 0
    for number, interval in enumerate(intervals):
        assert interval.number == number
        assert interval.capacity_nanos == (interval.ended - interval.started) * 1000 * DEVICES
        assert sum(line.device_nanos for line in interval.lines) == interval.capacity_nanos
        assert sum(line.amount for line in interval.lines) == interval.amount
        capacity += interval.capacity_nanos
        idle = [line for line in interval.lines if line.account.kind is Kind.IDLE]
        assert all(line.device_nanos >= 0 and line.amount >= 0 for line in idle)
    assert sum(interval.amount for interval in intervals) == amount(DeviceNanos(capacity), price)


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
