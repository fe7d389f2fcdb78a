"""Homes with books and a spool before them, for tests of the spool."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from meted.domain.budget import Window
from meted.domain.units import MICROS_PER_SECOND, Micros, NanoUSD
from meted.live.store import (
    Batch,
    LeaseWish,
    Store,
)
from meted.live.stores import open_store
from meted.live.stores.spool import SpoolingStore
from meted.testing.check_store import (
    START,
    interval,
    loss_row,
    request_account,
    request_row,
)
from meted.testing.store_rows import charge_row

from .down_store import DownStore, Hands

MIB = 1 << 20


class Site:
    """A home with books and a spool; its store can be down, and its house can be killed."""

    def __init__(self, folder: Path, *, house: str = "here", books: Path | None = None) -> None:
        self.folder = folder
        self.house = house
        self.books = books or folder / "books.sqlite"
        self.spool = folder / "spool"
        self.clock = Hands()
        self.world = self.new_world()

    def new_world(self) -> DownStore:
        self.world = DownStore(open_store(self.books, house=self.house))
        return self.world

    def open(self, most_bytes: int = MIB, *, down: bool = False) -> SpoolingStore:
        self.new_world().down = down
        return self.spooling(most_bytes)

    def spooling(self, most_bytes: int = MIB) -> SpoolingStore:
        return SpoolingStore(
            self.world, self.spool, most_bytes=most_bytes, books="b", clock=self.clock
        )

    def back(self) -> None:
        self.world.down = False
        self.clock.now += 60

    def rows(self) -> dict[str, list[Any]]:
        """All that was entered, but for the numbers that a database gives to accounts."""
        with closing(sqlite3.connect(self.books)) as db:
            return {
                table: sorted(db.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
                for table, columns in (
                    ("intervals", "number, started, ended, amount"),
                    ("lines", "number, position, request, device_nanos, amount"),
                    ("provisional", "number, interval"),
                    ("requests", "id, arrived, outcome, device_nanos, cost, price, stopped"),
                    ("charges", "id, at, device_nanos, cost, price"),
                    ("losses", "job, step, moment, tokens"),
                )
            }


def batch(number: int, *, opened: bool = True) -> Batch:
    """The numbered second: closed, with a request that ended in it, and the next one open."""
    return Batch(
        session="s1",
        closed=(interval(number, {request_account(number): 70}),),
        open=interval(number + 1, {request_account(number + 1): 30}) if opened else None,
        requests=(request_row(number, 70),),
        charges=(charge_row(number, 5),),
        losses=(loss_row(number),),
    )


def written(tmp_path: Path, *batches: Batch) -> dict[str, list[Any]]:
    """The rows of books that were never down."""
    folder = tmp_path / "never down"
    folder.mkdir()
    site = Site(folder)
    for one in batches:
        site.world.write(one)
    site.world.close()
    return site.rows()


def leased(store: Store, window: Window, granted: int, *, at: int = 0) -> int:
    now = Micros(START + at)
    (lease,) = store.lease(
        [LeaseWish(window=window, granted=NanoUSD(granted), least=NanoUSD(granted))],
        now=now,
        until=Micros(now + 30 * MICROS_PER_SECOND),
    )
    return lease.granted


def standing(site: Site) -> tuple[int, int]:
    with closing(open_store(site.books, house="looks")) as store:
        (one,) = store.standings(now=Micros(START + 1))
        return one.all_granted, one.all_spent
