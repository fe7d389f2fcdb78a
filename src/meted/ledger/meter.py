"""The meter: readings of workers' processor clocks in, closed intervals of exact lines out.

Every worker's cumulative CPU clock is an axis. Reports cover it piece by piece with charges; what
is read but not yet covered is in progress and stands on the worker's residual account. An interval
closes at any moment, without waiting for anybody: its lines are the differences of cumulative
accounts since the last close, and idle is what is left of the capacity. Nothing is ever edited; a
later interval corrects an earlier one with a pair of lines that sums to zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_MICRO, DeviceNanos, Micros, NanoUSD
from meted.ledger.money import amount

IDLE = Account(kind=Kind.IDLE)
ROUNDING = Account(kind=Kind.OVERHEAD, note="rounding")
IN_PROGRESS = "in progress"
"""Note of the account on which an engine's step stands until its report says whose it was."""
UNCHECKPOINTED = "since checkpoint"
"""Note of the account on which training stands until a checkpoint makes it durable."""


@dataclass(slots=True)
class _Axis:
    """One worker's CPU clock: read up to here, covered by charges up to there."""

    residual: Account
    read: int
    covered: int


@dataclass(slots=True)
class _Posted:
    """What the closed intervals hold of an account, and of that at earlier prices."""

    nanos: int = 0
    amount: int = 0
    old_nanos: int = 0
    old_amount: int = 0


class Meter:
    """Device time of one session of the house, from the first moment to the last.

    Pure: whoever owns it reads the clocks. All times are wall-clock micros that advance with a
    monotonic clock; all CPU readings are nanoseconds of a worker's own cumulative clock.
    """

    def __init__(self, *, session: str, devices: int, price: Price, started: Micros) -> None:
        self._session = session
        self._devices = devices
        self._price = price
        self._priced_from = started
        self._number = 0
        self._closed_at = started
        self._axes: dict[str, _Axis] = {}
        self._used: dict[Account, int] = {}
        self._posted: dict[Account, _Posted] = {}
        self._dirty: set[Account] = set()
        self._settled: set[Account] = set()
        self._held_back: set[Account] = set()

    @property
    def number(self) -> int:
        """Intervals closed so far."""
        return self._number

    def open(self, worker: str, residual: Account, *, at: DeviceNanos = DeviceNanos(0)) -> None:
        """A new worker whose clock stands at `at`; its uncovered time goes to `residual`."""
        if worker in self._axes:
            raise ValueError(f"worker {worker!r} is metered already; give each start a new name")
        self._axes[worker] = _Axis(residual=residual, read=at, covered=at)
        self._dirty.add(residual)

    def read(self, worker: str, clock: DeviceNanos) -> None:
        """The house has read a worker's clock. A reading behind an earlier one changes nothing."""
        axis = self._axes[worker]
        if clock > axis.read:
            axis.read = clock
            self._dirty.add(axis.residual)

    def charge(self, worker: str, until: DeviceNanos, parts: Mapping[Account, DeviceNanos]) -> None:
        """A worker reports its clock covered up to `until`, by these parts.

        Raises ValueError if the parts do not sum to the newly covered time.
        """
        axis = self._axes[worker]
        fresh = until - axis.covered
        if sum(parts.values()) != fresh:
            raise ValueError(
                f"worker {worker!r} covered {fresh} ns of its clock with parts of "
                f"{sum(parts.values())} ns; expected the same sum"
            )
        for account, nanos in parts.items():
            self._add(account, nanos)
        axis.covered = until
        axis.read = max(axis.read, until)
        self._dirty.add(axis.residual)

    def cover(self, worker: str, until: DeviceNanos, account: Account) -> DeviceNanos:
        """A worker's clock up to `until` was all for one account; returns the newly covered."""
        fresh = DeviceNanos(max(0, until - self._axes[worker].covered))
        self.charge(worker, DeviceNanos(self._axes[worker].covered + fresh), {account: fresh})
        return fresh

    def covered(self, worker: str) -> DeviceNanos:
        """Up to where a worker's clock is covered by charges."""
        return DeviceNanos(self._axes[worker].covered)

    def turn(self, worker: str, residual: Account) -> None:
        """From now on a worker's uncovered time stands on another account."""
        axis = self._axes[worker]
        self._dirty.update((axis.residual, residual))
        axis.residual = residual

    def end(self, worker: str, clock: DeviceNanos, account: Account) -> None:
        """A worker has ended with its clock at `clock`; what no report covers goes to `account`."""
        axis = self._axes[worker]
        self.cover(worker, DeviceNanos(max(clock, axis.read)), account)
        del self._axes[worker]

    def move(self, source: Account, target: Account, nanos: DeviceNanos | None = None) -> None:
        """Move used time to another account (all of it by default), e.g. what a crash lost."""
        moved = self._used.get(source, 0) if nanos is None else nanos
        self._add(source, -moved)
        self._add(target, moved)

    def used(self, account: Account) -> DeviceNanos:
        """Covered time on an account since the session began (since it was settled: 0)."""
        return DeviceNanos(self._used.get(account, 0))

    def cost(self, account: Account) -> NanoUSD:
        """Exactly what the books will hold for an account once an interval has closed."""
        return self._cost(self._used.get(account, 0), self._posted.get(account))

    @property
    def price(self) -> Price:
        """The price in force."""
        return self._price

    def reprice(self, price: Price) -> bool:
        """From the last close on, a device costs this: call it right after `close`.

        False, and nothing changed, where a few nanoseconds of the time before wait for the next
        close; they, and the costs told of them, belong to the old price.
        """
        if price == self._price:
            return True
        if self._held_back:
            return False
        self._price = price
        self._priced_from = self._closed_at
        for posted in self._posted.values():
            posted.old_nanos, posted.old_amount = posted.nanos, posted.amount
        return True

    def settle(self, account: Account) -> None:
        """Nothing more will come on this account: forget it once it is posted."""
        self._settled.add(account)
        self._dirty.add(account)

    def provisional(self, now: Micros) -> Interval:
        """The interval that would close now; changes nothing. It outlives a crash of the house."""
        interval, _ = self._interval(now)
        return interval

    def close(self, now: Micros) -> Interval:
        """Close the interval at `now`: its lines add up to its capacity, in time and in money."""
        interval, held_back = self._interval(now)
        for line in interval.lines:
            posted = self._posted.setdefault(line.account, _Posted())
            posted.nanos += line.device_nanos
            posted.amount += line.amount
        for account in self._settled - held_back:
            self._used.pop(account, None)
            self._posted.pop(account, None)
        self._settled &= held_back
        self._held_back = held_back
        self._dirty = set(held_back)
        for axis in self._axes.values():
            if axis.read > axis.covered:
                self._dirty.add(axis.residual)
        self._closed_at = interval.ended
        self._number += 1
        return interval

    def _add(self, account: Account, nanos: int) -> None:
        self._used[account] = self._used.get(account, 0) + nanos
        self._dirty.add(account)

    def _cost(self, nanos: int, posted: _Posted | None) -> NanoUSD:
        if posted is None:
            return amount(DeviceNanos(nanos), self._price)
        new = amount(DeviceNanos(nanos - posted.old_nanos), self._price)
        return NanoUSD(posted.old_amount + new)

    def _capacity(self, until: Micros) -> int:
        return (until - self._priced_from) * self._devices * NANOS_PER_MICRO

    def _interval(self, now: Micros) -> tuple[Interval, set[Account]]:
        now = Micros(max(now, self._closed_at))
        before, after = self._capacity(self._closed_at), self._capacity(now)
        deltas, held_back = self._deltas(DeviceNanos(after - before))
        lines = [self._line(account, delta) for account, delta in deltas.items()]
        lines.append(self._line(IDLE, after - before - sum(deltas.values())))
        total = amount(DeviceNanos(after), self._price) - amount(DeviceNanos(before), self._price)
        left = total - sum(line.amount for line in lines)
        if left:
            lines.append(Line(account=ROUNDING, device_nanos=DeviceNanos(0), amount=NanoUSD(left)))
        interval = Interval(
            session=self._session,
            number=self._number,
            priced_from=self._priced_from,
            started=self._closed_at,
            ended=now,
            devices=self._devices,
            nano_usd_per_device_hour=self._price.nano_usd_per_device_hour,
            capacity_nanos=DeviceNanos(after - before),
            amount=NanoUSD(total),
            lines=tuple(line for line in lines if line.device_nanos or line.amount),
        )
        return interval, held_back

    def _deltas(self, capacity: DeviceNanos) -> tuple[dict[Account, int], set[Account]]:
        """What each account gained since the last close, and the accounts that must wait.

        Clocks are read one after the other, so that a full house can seem to have used a little
        more than there was; the surplus is held back from the largest gains until the next close.
        """
        gained = {account: self._used.get(account, 0) for account in self._dirty}
        for axis in self._axes.values():
            if axis.residual in gained:
                gained[axis.residual] += axis.read - axis.covered
        deltas = {
            account: nanos - (posted.nanos if (posted := self._posted.get(account)) else 0)
            for account, nanos in gained.items()
        }
        surplus = sum(deltas.values()) - capacity
        held_back: set[Account] = set()
        for account in sorted(deltas, key=lambda account: -deltas[account]):
            if surplus <= 0:
                break
            kept = min(surplus, max(0, deltas[account]))
            deltas[account] -= kept
            surplus -= kept
            held_back.add(account)
        return {account: delta for account, delta in deltas.items() if delta}, held_back

    def _line(self, account: Account, delta: int) -> Line:
        posted = self._posted.get(account) or _Posted()
        after = self._cost(posted.nanos + delta, posted)
        return Line(
            account=account,
            device_nanos=DeviceNanos(delta),
            amount=NanoUSD(after - posted.amount),
        )
