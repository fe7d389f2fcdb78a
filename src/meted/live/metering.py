"""The meter in the live house: reads every clock, closes intervals, writes them durably."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Pool
from meted.domain.units import MICROS_PER_SECOND, DeviceNanos, JobName, NanoUSD
from meted.ledger.meter import Meter
from meted.live.clock import Clock
from meted.live.cpu_clock import own_cpu_nanos
from meted.live.store import Batch, LossRow, RequestRow, Store

HOUSE = "house"
QUIET_US = 1_000_000
"""An open interval with nothing new to tell is written this often, not at each flush."""

T = TypeVar("T")


class Metering:
    """One session's meter, its worker clocks, and the one thread that writes to the store.

    Each flush is one transaction with all that came since the last (group commit): requests that
    ended, loss points, the interval that closed, and the open interval as it stands, which closes
    as it is if the house is killed.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        clock: Clock,
        session: str,
        interval_s: float,
        flush_s: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._interval_us = round(interval_s * MICROS_PER_SECOND)
        self._flush_s = flush_s
        self._last_write = clock.now()
        self.on_close: Callable[[Interval], None] = lambda interval: None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="books")
        self._clocks: dict[str, Callable[[], DeviceNanos]] = {}
        self._requests: list[RequestRow] = []
        self._losses: list[LossRow] = []
        self._closed: list[Interval] = []
        self._next_close = clock.now() + self._interval_us
        self.session = session
        self.losses: dict[JobName, list[LossRow]] = {}
        self.meter = Meter(
            session=session,
            devices=len(pool.devices),
            price=pool.price,
            started=clock.wall(),
        )
        self.meter.open(HOUSE, Account(kind=Kind.OVERHEAD), at=_own_clock())
        self._clocks[HOUSE] = _own_clock
        self.totals: dict[Kind, tuple[DeviceNanos, NanoUSD]] = {
            kind: (DeviceNanos(0), NanoUSD(0)) for kind in Kind
        }

    def worker_started(
        self, worker: str, residual: Account, clock: Callable[[], DeviceNanos]
    ) -> None:
        """Meter a new worker from the first nanosecond of its life."""
        self.meter.open(worker, residual)
        self._clocks[worker] = clock

    def worker_ended(self, worker: str, clock: DeviceNanos, account: Account) -> None:
        """A worker has ended; what it never reported goes to `account`."""
        del self._clocks[worker]
        self.meter.end(worker, clock, account)

    def request_ended(self, row: RequestRow) -> None:
        """Write this with the next flush."""
        self._requests.append(row)

    def loss_measured(self, row: LossRow) -> None:
        """Write this with the next flush."""
        self._losses.append(row)
        self.losses.setdefault(row.job, []).append(row)

    async def run(self) -> None:
        """Flush until cancelled. A store that fails is an error that ends the house."""
        while True:
            await asyncio.sleep(self._flush_s)
            now = self._clock.now()
            due = now >= self._next_close
            if due or self._requests or self._losses or now - self._last_write > QUIET_US:
                await self.flush(close=due)

    async def flush(self, *, close: bool) -> None:
        """Read all clocks, close the interval if asked, and write what there is."""
        for worker, clock in self._clocks.items():
            self.meter.read(worker, clock())
        now = self._last_write = self._clock.now()
        if close:
            self._next_close = max(self._next_close + self._interval_us, now)
            interval = self.meter.close(self._clock.wall(now))
            self._closed.append(interval)
            self._remember(interval)
            opened = None
        else:
            opened = self.meter.provisional(self._clock.wall(now))
        batch = Batch(
            closed=tuple(self._closed),
            open=opened,
            requests=tuple(self._requests),
            losses=tuple(self._losses),
        )
        self._closed, self._requests, self._losses = [], [], []
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._store.write, batch)

    async def finish(self) -> None:
        """Close the last interval of the session and stop writing."""
        await self.flush(close=True)
        self._writer.shutdown(wait=True)

    async def in_writer(self, call: Callable[[], T]) -> T:
        """Run a store call on the writer's thread, in order with the flushes."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    def _remember(self, interval: Interval) -> None:
        for line in interval.lines:
            nanos, amount = self.totals[line.account.kind]
            self.totals[line.account.kind] = (
                DeviceNanos(nanos + line.device_nanos),
                NanoUSD(amount + line.amount),
            )
        self.on_close(interval)


def new_session() -> str:
    """A name for this run of the house that sorts by time."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.monotonic_ns() % 10**6:06d}"


def _own_clock() -> DeviceNanos:
    return DeviceNanos(own_cpu_nanos())
