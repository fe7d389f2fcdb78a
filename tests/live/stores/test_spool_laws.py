"""Laws of the spool: nothing is lost or entered twice, whoever is killed and whenever."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.budget import Window
from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.request import Outcome
from meted.domain.units import Micros
from meted.ledger.windows import window_of
from meted.live.store import (
    Batch,
    ChargeRow,
    LossRow,
    RequestRow,
    Store,
    StoreDownError,
)
from meted.live.stores import open_store
from meted.live.stores.delegating import DelegatingStore
from meted.live.stores.postings import session_of
from meted.live.stores.spool import SpoolingStore
from meted.live.stores.spool_file import Record
from meted.live.stores.spool_records import decoded, encoded
from meted.testing.check_store import (
    START,
    TRAINING,
    check_batches_are_whole,
    check_crash_after_close,
    check_crash_tells_what_clients_were_told,
    check_crash_tells_what_is_unresolved,
    check_exactly_once,
    check_memory,
    check_open_interval_is_replaced,
    check_store,
    interval,
    request_account,
    request_row,
)
from meted.testing.store_rows import budget

from .down_store import DownStore, Hands
from .spool_site import MIB, Site, batch, leased, standing, written


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# Killed processes.

CHILD = """
import sys
from pathlib import Path
from meted.live.store import StoreDownError
from meted.live.stores import open_store
from meted.live.stores.delegating import DelegatingStore
from meted.live.stores.spool import SpoolingStore
from meted.testing.check_store import write_forever

class Down(DelegatingStore):
    def _through(self, call):
        raise StoreDownError("down")

class Slow(DelegatingStore):
    def write(self, batch):
        print("replays", flush=True)
        super().write(batch)
        print("replayed", flush=True)

def say(number):
    print(number, flush=True)

folder, world, room = Path(sys.argv[1]), {"down": Down, "slow": Slow}[sys.argv[2]], 1 << 30
store = world(open_store(folder / "books.sqlite", house="here"))
write_forever(SpoolingStore(store, folder / "spool", most_bytes=room, books="b"), say)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    running: list[subprocess.Popen[str]] = []

    def start(world: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), world], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


def killed_after(process: "subprocess.Popen[str]", lines: int) -> list[str]:
    """Kill it once it has printed so many lines; all that it has printed."""
    assert process.stdout is not None
    seen = [process.stdout.readline().strip() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return [*seen, *rest.splitlines()]


def test_killed_in_mid_append_loses_nothing_that_was_acknowledged(
    site: Site, child: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    acknowledged = int(killed_after(child("down"), 40)[-1])
    check_batches_are_whole(lambda house="here": site.open(), acknowledged=acknowledged)
    assert not site.spool.exists()


def test_killed_in_mid_replay_enters_nothing_twice(
    site: Site, tmp_path: Path, child: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    store = site.open(100 * MIB, down=True)
    made = budget("b", 10**9)
    window = window_of(made, Micros(START))
    with closing(open_store(site.books, house="here")) as direct:
        direct.save_budget(made)
        leased(direct, window, 10**9)
    row = request_row(0, 70)
    for number in range(1000):
        account = request_account(number)
        row = replace(request_row(number, 70, price=number, windows=(window,)), account=account)
        store.write(replace(batch(number), requests=(row,), charges=()))
    store.close()
    content = site.spool.read_bytes()
    for lines in (1, 3, 4):
        # After the first group, in the middle of the second, and after the second one.
        said = killed_after(child("slow"), lines)
        assert said[0] == "replays"
        assert site.spool.read_bytes() == content
    assert site.rows()["requests"] != []
    site.open().close()
    assert not site.spool.exists()
    assert standing(site) == (10**9, sum(range(1000)))
    rows = site.rows()
    assert [len(rows[table]) for table in ("requests", "intervals", "losses")] == [1000] * 3


# The seam: what a store must keep, with a spool before it.


def by_house(tmp_path: Path, world: Callable[[Store], Store]) -> Callable[..., Store]:
    """One spool for each house, and a time in which every pause is over."""
    clock = Hands()

    def make(house: str = "here") -> Store:
        clock.now += 60
        store = world(open_store(tmp_path / "books.sqlite", house=house))
        return SpoolingStore(
            store, tmp_path / f"spool-{house}", most_bytes=MIB, books="b", clock=clock
        )

    return make


def test_a_store_with_a_spool_is_a_store(tmp_path: Path) -> None:
    check_store(by_house(tmp_path, lambda store: store))


class Outages(DelegatingStore):
    """The database is down for every batch and back for every other call, after a while."""

    def __init__(self, store: SpoolingStore, world: DownStore, clock: Hands) -> None:
        super().__init__(store)
        self._world = world
        self._clock = clock

    def write(self, batch: Batch) -> None:
        self._world.down = True
        super().write(batch)
        self._world.down = False

    def _through(self, call: Callable[[], Any]) -> Any:
        self._clock.now += 60
        return call()


def test_books_are_the_same_when_every_batch_goes_through_the_spool(tmp_path: Path) -> None:
    clock = Hands()

    def make(house: str = "here") -> Store:
        world = DownStore(open_store(tmp_path / "books.sqlite", house=house))
        path = tmp_path / f"spool-{house}"
        store = SpoolingStore(world, path, most_bytes=MIB, books="b", clock=clock)
        return Outages(store, world, clock)

    check_exactly_once(make)
    check_open_interval_is_replaced(make)
    # Instead of the check that refusals are told at once; the checks below count on its two.
    with closing(make()) as store:
        store.write(Batch(closed=(interval(2, {TRAINING: 2}),)))
    check_crash_tells_what_is_unresolved(make)
    check_crash_after_close(make)
    check_crash_tells_what_clients_were_told(make)
    check_memory(make)


# What is spooled comes back as it was.

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
maybe_text = st.none() | texts
big = st.integers(-(2**63), 2**63 - 1)
windows = st.lists(
    st.builds(Window, budget=texts, starts=big, ends=st.none() | big), max_size=3
).map(tuple)
accounts = st.builds(
    Account,
    kind=st.sampled_from(Kind),
    tenant=maybe_text,
    project=maybe_text,
    key=maybe_text,
    deployment=maybe_text,
    model=maybe_text,
    job=maybe_text,
    request=maybe_text,
    note=texts,
)
intervals = st.builds(
    Interval,
    session=texts,
    number=big,
    priced_from=big,
    started=big,
    ended=big,
    devices=big,
    nano_usd_per_device_hour=big,
    capacity_nanos=big,
    amount=big,
    lines=st.lists(st.builds(Line, account=accounts, device_nanos=big, amount=big), max_size=3).map(
        tuple
    ),
)
requests = st.builds(
    RequestRow,
    account=accounts,
    arrived=big,
    ended=big,
    outcome=st.sampled_from(Outcome),
    prompt_tokens=big,
    cached_tokens=big,
    completion_tokens=big,
    ttft_us=st.none() | big,
    device_nanos=big,
    cost=big,
    price=big,
    windows=windows,
    stopped=texts,
)
charges = st.builds(
    ChargeRow,
    id=texts,
    account=accounts,
    at=big,
    device_nanos=big,
    cost=big,
    price=big,
    windows=windows,
)
floats = st.none() | st.floats(allow_nan=False)
losses = st.builds(
    LossRow,
    job=texts,
    step=big,
    tokens=big,
    loss=floats,
    held_out=floats,
    when=texts,
    device_nanos=big,
    cost=big,
)
batches = st.builds(
    Batch,
    session=texts.filter(bool),
    closed=st.lists(intervals, max_size=2).map(tuple),
    open=st.none() | intervals,
    requests=st.lists(requests, max_size=2).map(tuple),
    charges=st.lists(charges, max_size=2).map(tuple),
    losses=st.lists(losses, max_size=2).map(tuple),
)


def types_of(value: object) -> object:
    """The value with the type of each part beside it: an enum's value is equal to its text."""
    if isinstance(value, tuple):
        return type(value), [types_of(one) for one in value]
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        return type(value), value
    return type(value), [(name, types_of(getattr(value, name))) for name in fields]


@given(batches)
def test_a_batch_comes_back_exactly(one: Batch) -> None:
    kept, opened = encoded(one, session_of(one))
    back = decoded(Path("spool"), Record(start=0, end=1, kept=kept, opened=opened))
    has_more = any((one.closed, one.requests, one.charges, one.losses))
    opening = "" if one.open is None else one.open.session
    expected = one if has_more else replace(one, session=opening)
    assert types_of(back) == types_of(expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["write", "write", "down", "back", "kill", "tear"]), max_size=30))
def test_whatever_happens_the_books_hold_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, happenings: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    site = Site(folder)
    store = site.spooling(20_000)
    acknowledged: list[Batch] = []
    number = 0

    def restart() -> SpoolingStore:
        store.close()
        return site.open(20_000)

    for happening in happenings:
        match happening:
            case "write":
                try:
                    store.write(batch(number))
                except StoreDownError:
                    assert store.waiting_bytes > 20_000 - 3_000
                    continue
                acknowledged.append(batch(number))
                number += 1
            case "down":
                site.world.down = True
            case "back":
                site.back()
            case "kill":
                store = restart()
            case _:
                if site.spool.exists():
                    with site.spool.open("ab") as file:
                        file.write(b"MTS1 and half of what was never acknowledged")
                store = restart()
    restart().close()
    assert site.rows() == written(folder, *acknowledged)
