"""The meter in the live house: reads every clock, closes intervals, writes them durably."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Pool, Price
from meted.domain.units import MICROS_PER_SECOND, DeviceNanos, JobName, NanoUSD, TransferId
from meted.ledger.meter import Meter
from meted.live.clock import Clock
from meted.live.cpu_clock import own_cpu_nanos
from meted.live.store import (
    Batch,
    ChargeRow,
    LeaseLostError,
    LossRow,
    RequestRow,
    Store,
    StoreDownError,
)

log = logging.getLogger(__name__)

HOUSE = "house"
QUIET_US = 1_000_000
"""An open interval with nothing new to tell is written this often, not at each flush."""
GROUP_US = 3_000
"""Pause between two transactions under load, in which requests gather: a client waits at most this
much longer for its end, and a transaction costs little more for sixteen requests than for one."""
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0
LAST_PATIENCE_S = 10.0
"""How long a house that ends waits for a store that is down."""
LEASE_LOST = "lease lost"

T = TypeVar("T")
Tell = Callable[[RequestRow], None]


@dataclass(slots=True)
class _Pending:
    """What the next transaction takes along."""

    requests: list[tuple[RequestRow, Tell]]
    charges: list[ChargeRow]
    losses: list[LossRow]
    closed: list[Interval]

    @property
    def any(self) -> bool:
        return bool(self.requests or self.charges or self.losses or self.closed)


class Metering:
    """One session's meter, its worker clocks, and the one thread that writes to the store.

    Group commit: requests that end while a transaction is written go together into the next one,
    and their clients are told the end once it is durable. At most each `flush_s` the transaction
    also holds the open interval as it stands, which closes as it is if the house is killed.
    """

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        price: Price | None = None,
        clock: Clock,
        session: str,
        interval_s: float,
        flush_s: float,
        acknowledge_durably: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._interval_us = round(interval_s * MICROS_PER_SECOND)
        self._flush_s = flush_s
        self._durably = acknowledge_durably
        self._last_write = self._last_flush = self._last_done = clock.now()
        self.on_close: Callable[[Interval], None] = lambda interval: None
        self.on_written: Callable[[TransferId], None] = lambda transfer: None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="books")
        self._clocks: dict[str, Callable[[], DeviceNanos]] = {}
        self._pending = _Pending([], [], [], [])
        self._next_close = clock.now() + self._interval_us
        self._wake = asyncio.Event()
        self._ending = False
        self._running: asyncio.Future[None] | None = None
        self.down: str | None = None
        self.session = session
        self.losses: dict[JobName, list[LossRow]] = {}
        self.meter = Meter(
            session=session,
            devices=len(pool.devices),
            price=price or pool.price,
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

    def request_ended(self, row: RequestRow, tell: Tell) -> None:
        """A request has ended: `tell` its client, with the row as it is in the books, once it is
        durable (at once where the configuration says so)."""
        if not self._durably:
            tell(row)
            tell = _told_already
        self._pending.requests.append((row, tell))
        self._wake.set()

    def charged(self, row: ChargeRow) -> None:
        """A part of a job is durable and charged: write it with the next transaction."""
        self._pending.charges.append(row)
        self._wake.set()

    def loss_measured(self, row: LossRow) -> None:
        """Write this with the next flush."""
        self._pending.losses.append(row)
        self.losses.setdefault(row.job, []).append(row)

    async def run(self) -> None:
        """Write until `finish`. A store that is down is tried again; any other failure of it is an
        error that ends the house."""
        self._running = asyncio.get_running_loop().create_future()
        try:
            while not self._ending:
                await self._woken()
                now = self._clock.now()
                close = now >= self._next_close
                quiet = not self._pending.any and now - self._last_write <= QUIET_US
                if close or (now - self._last_flush >= self._flush_s * 1e6 and not quiet):
                    await self.flush(close=close)
                elif self._pending.requests or self._pending.charges:
                    await self._write(None)
        finally:
            self._running.set_result(None)

    async def _woken(self) -> None:
        """Until something is to be acknowledged, or a flush is due."""
        try:
            async with asyncio.timeout(self._flush_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        pause = self._last_done + GROUP_US - self._clock.now()
        if pause > 0 and not self._ending:
            await asyncio.sleep(pause / 1e6)
        self._wake.clear()

    async def flush(self, *, close: bool) -> None:
        """Read all clocks, close the interval if asked, and write what there is."""
        for worker, clock in self._clocks.items():
            self.meter.read(worker, clock())
        now = self._last_flush = self._clock.now()
        opened: Interval | None = None
        if close:
            self._next_close = max(self._next_close + self._interval_us, now)
            interval = self.meter.close(self._clock.wall(now))
            self._pending.closed.append(interval)
            self._remember(interval)
        else:
            opened = self.meter.provisional(self._clock.wall(now))
        await self._write(opened)

    async def _write(self, opened: Interval | None) -> None:
        """One transaction with all that came since the last, and then its clients' answers."""
        taken, self._pending = self._pending, _Pending([], [], [], [])
        self._last_write = self._clock.now()
        batch = Batch(
            session=self.session,
            closed=tuple(taken.closed),
            open=opened,
            requests=tuple(row for row, _ in taken.requests),
            charges=tuple(taken.charges),
            losses=tuple(taken.losses),
        )
        rows = await self._durable(batch)
        self._last_done = self._clock.now()
        for charge in batch.charges:
            self.on_written(charge.id)
        for row, (_, tell) in zip(rows, taken.requests, strict=True):
            self.on_written(TransferId(row.request_id))
            tell(row)

    async def _durable(self, batch: Batch) -> tuple[RequestRow, ...]:
        """The batch's requests as they are in the books. Tries again while the store is down."""
        pause = FIRST_RETRY_S
        waited = 0.0
        while True:
            try:
                return await self.in_writer(lambda: self._written(batch))
            except StoreDownError as error:
                if self.down is None:
                    log.error("the books cannot be written: %s", error)
                self.down = str(error)
                if self._ending and waited > LAST_PATIENCE_S:
                    raise
                await asyncio.sleep(pause)
                waited += pause
                pause = min(LAST_RETRY_S, 2 * pause)

    def _written(self, batch: Batch) -> tuple[RequestRow, ...]:
        try:
            self._store.write(batch)
        except LeaseLostError:
            return self._without_lost_leases(batch)
        self.down = None
        return batch.requests

    def _without_lost_leases(self, batch: Batch) -> tuple[RequestRow, ...]:
        """Write posting by posting. Who reserved in a lease that is lost is charged nothing: the
        house was out of touch for too long, and the money may be another house's by now."""
        rows: list[RequestRow] = []
        for row in batch.requests:
            try:
                self._store.write(Batch(session=batch.session, requests=(row,)))
            except LeaseLostError as error:
                log.error("request %s is not charged: %s", row.request_id, error)
                row = replace(row, price=NanoUSD(0), windows=(), stopped=LEASE_LOST)
                self._store.write(Batch(session=batch.session, requests=(row,)))
            rows.append(row)
        for charge in batch.charges:
            try:
                self._store.write(Batch(session=batch.session, charges=(charge,)))
            except LeaseLostError as error:
                log.error("charge %s is not made: %s", charge.id, error)
                free = replace(charge, price=NanoUSD(0), windows=())
                self._store.write(Batch(session=batch.session, charges=(free,)))
        self._store.write(replace(batch, requests=tuple(rows), charges=()))
        self.down = None
        return tuple(rows)

    async def finish(self) -> None:
        """Close the last interval of the session and stop writing."""
        self._ending = True
        self._wake.set()
        if self._running is not None:
            await self._running
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


def _told_already(row: RequestRow) -> None:
    pass


def new_session() -> str:
    """A name for this run of the house that sorts by time and that no other house has."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def _own_clock() -> DeviceNanos:
    return DeviceNanos(own_cpu_nanos())
