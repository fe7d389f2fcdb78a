"""Conservation: whatever happens, every interval's lines are its capacity, in time and money."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

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
from meted.ledger.recovery import Acknowledged, Suspended, lost, recovered
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
        self.now = 1_000_000
        self.meter = Meter(
            session="s",
            devices=DEVICES,
            price=Price(nano_usd_per_device_hour=NanoUSD(price)),
            started=Micros(self.now),
        )
        self.clocks: dict[str, int] = {}
        self.covered: dict[str, int] = {}
        self.born = 0
        self.burnt_by_dead = 0
        self.requests: dict[int, bool] = {}
        self.told: dict[int, tuple[int, int, int]] = {}
        self.intervals: list[Interval] = []
        self.written: Interval | None = None

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
        account = request(number)
        self.told[number] = (self.now, self.meter.used(account), self.meter.cost(account))
        self.meter.settle(account)
        self.meter.settle(lost(account))

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

    @rule(price=st.integers(min_value=0, max_value=10**13))
    def the_price_changes(self, price: int) -> None:
        self.intervals.append(self.meter.close(Micros(self.now)))
        self.meter.reprice(Price(nano_usd_per_device_hour=NanoUSD(price)))

    @rule()
    def the_open_interval_is_written(self) -> None:
        self.written = self.meter.provisional(Micros(self.now))

    @rule()
    def house_is_killed(self) -> None:
        """What a store holds after a crash now balances: every told cost is booked, the rest of
        what was in progress is lost, though the open interval was written some time before."""
        last = self.written
        if last is None or last.number != len(self.intervals):
            if not self.intervals:
                return
            last = after(self.intervals[-1])
        sums: dict[Account, list[int]] = defaultdict(lambda: [0, 0])
        for interval in (*self.intervals, last):
            for line in interval.lines:
                sums[line.account][0] += line.device_nanos
                sums[line.account][1] += line.amount
        unended = {request(number) for number, ended in self.requests.items() if not ended}
        suspended = [
            Suspended(account=account, device_nanos=DeviceNanos(nanos), amount=NanoUSD(cost))
            for account, (nanos, cost) in list(sums.items())
            if account.kind is not Kind.LOST
            and (account.note in (IN_PROGRESS, UNCHECKPOINTED) or account in unended)
        ]
        acknowledged = [
            Acknowledged(
                account=request(number),
                ended=Micros(ended),
                device_nanos=DeviceNanos(nanos),
                cost=NanoUSD(cost),
                posted_nanos=DeviceNanos(sums[request(number)][0]),
                posted_cost=NanoUSD(sums[request(number)][1]),
            )
            for number, (ended, nanos, cost) in self.told.items()
        ]
        books = [*self.intervals, recovered(last, suspended, acknowledged)]
        check(books)
        held: dict[Account, list[int]] = defaultdict(lambda: [0, 0])
        for line in (line for interval in books for line in interval.lines):
            held[line.account][0] += line.device_nanos
            held[line.account][1] += line.amount
        for number, (_, nanos, cost) in self.told.items():
            assert held[request(number)] == [nanos, cost]
        assert all(held[one.account] == [0, 0] for one in suspended)

    def teardown(self) -> None:
        """Once all clocks are read and there was time to post, not a nanosecond is missing."""
        if not hasattr(self, "meter"):
            return
        for name, clock in self.clocks.items():
            self.meter.read(name, DeviceNanos(clock))
        self.now += 3_600_000_000
        self.intervals.append(self.meter.close(Micros(self.now)))
        check(self.intervals)
        used = sum(
            line.device_nanos
            for interval in self.intervals
            for line in interval.lines
            if line.account.kind is not Kind.IDLE
        )
        assert used == sum(self.clocks.values()) + self.burnt_by_dead

    @invariant()
    def every_closed_interval_balances(self) -> None:
        check(self.intervals)


def after(last: Interval) -> Interval:
    """An interval without time after the last, as a store makes it where none was open."""
    return replace(
        last,
        number=last.number + 1,
        started=last.ended,
        capacity_nanos=DeviceNanos(0),
        amount=NanoUSD(0),
        lines=(),
    )


def check(intervals: list[Interval]) -> None:
    for number, interval in enumerate(intervals):
        assert interval.number == number
        assert interval.capacity_nanos == (interval.ended - interval.started) * 1000 * DEVICES
        assert sum(line.device_nanos for line in interval.lines) == interval.capacity_nanos
        assert sum(line.amount for line in interval.lines) == interval.amount
        price = Price(nano_usd_per_device_hour=interval.nano_usd_per_device_hour)
        before, now = (
            amount(DeviceNanos((at - interval.priced_from) * 1000 * DEVICES), price)
            for at in (interval.started, interval.ended)
        )
        assert interval.amount == now - before
        idle = [line for line in interval.lines if line.account.kind is Kind.IDLE]
        assert all(line.device_nanos >= 0 for line in idle)
    for last, this in pairwise(intervals):
        assert this.started == last.ended
        assert this.priced_from in (last.priced_from, this.started)


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
