"""The spool: what a store that is down may miss, kept in a file until it is back.

A batch is acknowledged once it is durable, in the store or in the file; it reaches the store
exactly once, because the file is given up only after all of it is durable there, and the store
knows again what was written before. A file that is full fails closed.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from meted.domain.budget import Budget
from meted.domain.units import BudgetName, JobName, Micros, NanoUSD
from meted.live.metering import LEASE_LOST
from meted.live.store import (
    Batch,
    Crashed,
    IntervalClosedError,
    Lease,
    LeaseLostError,
    LeaseWish,
    LossRow,
    Store,
    StoreDownError,
    StoreError,
    Total,
)
from meted.live.stores.delegating import DelegatingStore
from meted.live.stores.postings import session_of
from meted.live.stores.spool_file import (
    Record,
    SpoolError,
    SpoolFile,
    begin_spool,
    open_spool,
    record_bytes,
)
from meted.live.stores.spool_records import encoded, groups, merged

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 2.0
"""A store that is down is asked again after pauses that double from the first to the last."""
LEASES_FIRST_S = 0.5
"""A replay waits so long for leases to be renewed: what was charged in a lease that another house
has closed meanwhile can be posted only in a new one."""
SLICE_S = 1.0
"""A replay makes way for other calls after this long, above all for the renewal of leases."""
COMPACT_BYTES = 1 << 20
"""What is not needed any more is taken out once it is as much, and a quarter of the file."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """Where a session's newest open interval stands in the file, and its number and length."""

    start: int
    number: int
    length: int


class SpoolingStore(DelegatingStore):
    """A store that may be down for a while, for one house, whose home the file is in.

    Calls that tell what was written, or depend on it, see the spool replayed, or raise
    StoreDownError. While something waits in the spool, a store that was down is asked again only
    now and then, by whatever call comes first.

    A posting whose lease is lost when it is replayed is entered with the price 0, outside of all
    windows, as `Metering` does it: its client was told a price, but the money may be another
    house's by now, and a hard budget holds. Request, cost and device time stay in the books.
    """

    def __init__(
        self,
        store: Store,
        path: Path,
        *,
        most_bytes: int,
        books: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Replay what an earlier run of the house left. Closes `store` if that fails.

        most_bytes: how long the file may get; 0 only replays. books: which books `store` is, so
        that their spool never gets into others (see `books_name`). clock: seconds.
        Raises StoreDownError if the store is down, and StoreError if the file cannot be used.
        """
        super().__init__(store)
        self._path = path
        self._most_bytes = most_bytes
        self._books = books
        self._clock = clock
        self._lock = threading.RLock()
        self._file: SpoolFile | None = None
        self._head = 0
        self._opens: dict[str, _Opened] = {}
        self._opened_bytes = 0
        self._reason = ""
        self._pause = 0.0
        self._next_try = clock()
        try:
            self._file, torn = open_spool(path, books)
            if torn:
                log.warning("%s: cut off %d bytes that were never acknowledged", path, torn)
            if self._file is not None:
                self._head = self._file.first
                self._replay(None)
        except BaseException:
            self.close()
            raise

    @property
    def waiting_bytes(self) -> int:
        """How much of the file is not in the store yet; 0 if nothing waits."""
        with self._lock:
            return 0 if self._file is None else self._file.end - self._head

    def close(self) -> None:
        """What waits is replayed when the house opens its store again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            super().close()

    def write(self, batch: Batch) -> None:
        with self._lock:
            if self._file is not None and self._clock() >= self._next_try + LEASES_FIRST_S:
                self._try_replay()
            if self._file is None:
                try:
                    super().write(batch)
                    return
                except StoreDownError:
                    if not self._most_bytes:
                        raise
            self._spool(batch)

    def all_written(self) -> bool:
        return self.waiting_bytes == 0 and super().all_written()

    # Calls that tell what was written, or depend on it.

    def crashed(self) -> Sequence[Crashed]:
        return self._after_replay(super().crashed)

    def job_totals(self) -> Sequence[Total]:
        return self._after_replay(super().job_totals)

    def losses(self, job: JobName) -> Sequence[LossRow]:
        return self._after_replay(lambda: DelegatingStore.losses(self, job))

    def reclaim(self) -> None:
        self._after_replay(super().reclaim)

    def save_budget(self, budget: Budget) -> None:
        self._after_replay(lambda: DelegatingStore.save_budget(self, budget))

    def remove_budget(self, name: BudgetName) -> None:
        self._after_replay(lambda: DelegatingStore.remove_budget(self, name))

    def standings(self, *, now: Micros) -> Sequence[Lease]:
        return self._after_replay(lambda: DelegatingStore.standings(self, now=now))

    def lease(self, wishes: Sequence[LeaseWish], *, now: Micros, until: Micros) -> Sequence[Lease]:
        """Leases are renewed before a replay, and told as they are after it if it came to its end.
        Told before it, they lack what this house spent meanwhile, which it knows itself."""
        with self._lock:
            leases = super().lease(wishes, now=now, until=until)
            if self._file is None or not self._try_replay():
                return leases
            return super().lease(wishes, now=now, until=until)

    def _after_replay(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self._file is not None:
                self._replay(None)
            return call()

    def _through(self, call: Callable[[], T]) -> T:
        """Every call of the store, which is left alone for a while after it was down."""
        with self._lock:
            if self._file is not None and self._clock() < self._next_try:
                raise StoreDownError(self._reason)
            try:
                answer = call()
            except StoreDownError as error:
                self._reason = str(error)
                self._pause = min(LAST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._pause))
                self._next_try = self._clock() + self._pause
                raise
            self._pause = 0.0
            return answer

    # Into the file.

    def _spool(self, batch: Batch) -> None:
        """Append a batch. Raises StoreDownError if it cannot be kept either."""
        session = session_of(batch)
        kept, opened = encoded(batch, session)
        if not (kept or opened):
            return
        need = record_bytes(kept, opened)
        try:
            self._make_room(need)
            file = self._file or begin_spool(self._path, self._books)
            if self._file is None:
                self._file, self._head = file, file.first
                log.error(
                    "the books wait in %s until the store is back: %s", self._path, self._reason
                )
            if file.end + need > self._most_bytes:
                self._give_up_if_empty(file)
                raise StoreDownError(
                    f"the spool {self._path} is full: it has {file.end} of {self._most_bytes} "
                    f"bytes and {need} more are wanted, and the store is down: {self._reason}; "
                    "bring the store back, or raise books.spool_mib and start again"
                )
            start = file.append(kept, opened)
        except OSError as error:
            if self._file is not None:
                self._give_up_if_empty(self._file)
            raise StoreDownError(
                f"the store is down: {self._reason}; and its spool {self._path} cannot be "
                f"written: {error.strerror or error}"
            ) from error
        self._note_open(batch, start, len(opened))

    def _give_up_if_empty(self, file: SpoolFile) -> None:
        if file.end == file.first:
            self._forget()
            file.remove()

    def _note_open(self, batch: Batch, start: int, length: int) -> None:
        """An open interval is needed until a newer one, or its end, is in the file too."""
        for interval in batch.closed:
            known = self._opens.get(interval.session)
            if known is not None and known.number <= interval.number:
                del self._opens[interval.session]
        if batch.open is None:
            return
        self._opened_bytes += length
        known = self._opens.get(batch.open.session)
        closed = any(
            one.session == batch.open.session and one.number >= batch.open.number
            for one in batch.closed
        )
        if not closed and (known is None or known.number <= batch.open.number):
            self._opens[batch.open.session] = _Opened(
                start=start, number=batch.open.number, length=length
            )

    def _make_room(self, need: int) -> None:
        """Take out open intervals that were replaced and records that were replayed, if it pays."""
        file = self._file
        if file is None:
            return
        needed = sum(one.length for one in self._opens.values())
        idle = self._opened_bytes - needed + self._head - file.first
        full = file.end + need > self._most_bytes
        if idle * 4 < file.end or not (full or idle >= COMPACT_BYTES):
            return
        try:
            moved = file.rewrite(self._head, {one.start for one in self._opens.values()})
        except OSError as error:
            log.warning("%s stays longer than it need be: %s", self._path, error)
            return
        self._head = file.first
        self._opens = {
            session: replace(one, start=moved[one.start]) for session, one in self._opens.items()
        }
        self._opened_bytes = needed

    # Out of the file.

    def _try_replay(self) -> bool:
        """Replay for a while; whether nothing waits any more."""
        try:
            return self._replay(SLICE_S)
        except StoreDownError:
            return False

    def _replay(self, seconds: float | None) -> bool:
        """Write into the store what waits, in order, and give the file up after the last of it.

        A crash at any point replays from the file's beginning again, to the same effect.
        Raises StoreDownError, and StoreError for a record that the store refuses.
        """
        file = self._file
        if file is None:
            return True
        ends = None if seconds is None else self._clock() + seconds
        for group in groups(file.path, file.records(self._head)):
            self._enter(group)
            self._passed(group)
            if ends is not None and self._clock() > ends and self._head < file.end:
                return False
        log.warning("the store is back, and what waited in %s is in it", self._path)
        self._forget()
        file.remove()
        return True

    def _passed(self, group: Sequence[tuple[Record, Batch]]) -> None:
        """A group is in the store; what of it is still in the file may be taken out."""
        self._head = group[-1][0].end
        self._opened_bytes -= sum(len(record.opened) for record, _ in group)
        self._opens = {
            session: one for session, one in self._opens.items() if one.start >= self._head
        }

    def _forget(self) -> None:
        self._file = None
        self._head = self._opened_bytes = 0
        self._opens.clear()

    def _enter(self, group: Sequence[tuple[Record, Batch]]) -> None:
        try:
            DelegatingStore.write(self, merged([batch for _, batch in group]))
        except StoreDownError:
            raise
        except StoreError:
            for record, batch in group:
                self._enter_one(record, batch)

    def _enter_one(self, record: Record, batch: Batch) -> None:
        try:
            DelegatingStore.write(self, batch)
        except StoreDownError:
            raise
        except LeaseLostError:
            self._enter_without_lost_leases(batch)
        except IntervalClosedError as error:
            log.warning(
                "%s: %s; its requests are entered without their intervals", self._path, error
            )
            self._enter_without_lost_leases(without_intervals(batch))
        except StoreError as error:
            raise SpoolError(
                f"{self._path}: the store refuses the record at byte {record.start}: {error}; put "
                "the store right and start again, or move the file away, and what it holds will "
                "be missing in the books"
            ) from error

    def _enter_without_lost_leases(self, batch: Batch) -> None:
        """Write posting by posting, so that only those are free whose own lease is lost."""
        for row in batch.requests:
            part = Batch(session=batch.session, requests=(row,))
            free = replace(row, price=NanoUSD(0), windows=(), stopped=LEASE_LOST)
            self._enter_or_free(
                f"request {row.request_id}", row.price, part, replace(part, requests=(free,))
            )
        for row in batch.charges:
            part = Batch(session=batch.session, charges=(row,))
            free = replace(row, price=NanoUSD(0), windows=())
            self._enter_or_free(f"charge {row.id}", row.price, part, replace(part, charges=(free,)))
        DelegatingStore.write(self, replace(batch, requests=(), charges=()))

    def _enter_or_free(self, name: str, price: NanoUSD, part: Batch, free: Batch) -> None:
        try:
            DelegatingStore.write(self, part)
        except LeaseLostError as error:
            log.error("%s, told as %d nano-USD, is charged 0: %s", name, price, error)
            DelegatingStore.write(self, free)


def without_intervals(batch: Batch) -> Batch:
    """What clients were told of a session that another house closed meanwhile, and recovered: its
    requests and charges. Recovery makes the requests whole; a job's time there counts as lost."""
    charges = (replace(row, device_nanos=0, cost=NanoUSD(0)) for row in batch.charges)
    return replace(batch, closed=(), open=None, charges=tuple(charges))


def books_name(target: str | Path) -> str:
    """What a spool says of its books: an address without who connects, or a file."""
    if isinstance(target, Path):
        # The home's own file moves with the home.
        return target.name
    if "://" not in target:
        return target
    address = urlsplit(target)
    return f"{address.netloc.rpartition('@')[2]}{address.path}"
