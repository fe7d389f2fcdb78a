"""The spool: what a store that was down has missed reaches it in order, and exactly once."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.budget import Window
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeviceNanos, Micros
from meted.ledger.recovery import recovered
from meted.ledger.windows import window_of
from meted.live.books import check
from meted.live.clock import Clock
from meted.live.metering import Metering
from meted.live.store import (
    Batch,
    RequestRow,
    Store,
    StoreDownError,
    StoreError,
)
from meted.live.stores import open_store
from meted.live.stores.spool import FIRST_PAUSE_S, LEASES_FIRST_S, SpoolingStore, books_name
from meted.live.stores.spool_records import encoded
from meted.testing.check_store import (
    JOB,
    MICROS,
    START,
    TRAINING,
    interval,
    request_account,
    request_row,
)
from meted.testing.store_rows import PRICE, budget, charge_row

from .spool_site import MIB, Site, batch, leased, standing, written


@pytest.fixture(autouse=True)
def warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever an earlier test has done to the levels of loggers."""
    caplog.set_level(logging.WARNING)
    for name in ("meted", "meted.live.stores.spool", "meted.live.stores.spool_file"):
        caplog.set_level(logging.WARNING, logger=name)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# What is spooled, and when it is replayed.


def test_spooled_batches_reach_the_store_in_order_once_it_is_back(
    site: Site, tmp_path: Path
) -> None:
    store = site.open()
    store.write(batch(0))
    site.world.down = True
    for number in (1, 2, 3):
        store.write(batch(number))
    assert store.waiting_bytes > 0
    assert site.world.written == [batch(0)]
    site.back()
    store.write(batch(4))
    assert store.waiting_bytes == 0
    assert not site.spool.exists()
    assert [row.request_id for one in site.world.written for row in one.requests] == [
        f"request-{number}" for number in range(5)
    ]
    assert site.rows() == written(tmp_path, *(batch(number) for number in range(5)))
    store.close()


def test_while_something_waits_nothing_goes_before_it(site: Site) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    site.world.down = False
    store.write(batch(1))
    site.clock.now += FIRST_PAUSE_S + LEASES_FIRST_S / 2
    store.write(batch(1))
    assert site.world.written == []
    site.clock.now += LEASES_FIRST_S
    store.write(batch(2))
    assert [len(one.requests) for one in site.world.written] == [3, 1]
    store.close()


def test_a_store_that_is_down_is_asked_only_now_and_then(site: Site) -> None:
    store = site.open(down=True)
    for number in range(400):
        store.write(Batch(session="s1", requests=(request_row(number, 1),)))
        with pytest.raises(StoreDownError, match="does not answer"):
            store.version()
        site.clock.now += 0.01
    assert 4 <= site.world.asked <= 9
    store.close()


def test_what_was_left_is_replayed_before_anything_is_answered(site: Site, tmp_path: Path) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    store.write(batch(1))
    store.close()
    with closing(site.open()) as store:
        assert site.world.written != []
        assert not site.spool.exists()
        (crashed,) = store.crashed()
        assert crashed.interval == interval(2, {request_account(2): 30})
    assert site.rows() == written(tmp_path, batch(0), batch(1))


def test_a_house_cannot_start_while_its_store_is_down_and_something_waits(site: Site) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    store.close()
    content = site.spool.read_bytes()
    with pytest.raises(StoreDownError):
        site.open(down=True)
    assert site.spool.read_bytes() == content


def test_without_room_for_anything_it_only_replays(site: Site) -> None:
    """So that a house that was set to fail closed still enters what it spooled before."""
    store = site.open(down=True)
    store.write(batch(0))
    store.close()
    store = site.open(0)
    assert not site.spool.exists()
    assert [one.step for one in store.losses(JOB)] == [0]
    site.world.down = True
    with pytest.raises(StoreDownError, match="does not answer"):
        store.write(batch(1))
    assert not site.spool.exists()
    store.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.crashed(),
        lambda store: store.job_totals(),
        lambda store: store.losses(JOB),
        lambda store: store.reclaim(),
        lambda store: store.standings(now=Micros(START)),
        lambda store: store.save_budget(budget("b", 5)),
    ],
)
def test_calls_that_depend_on_what_was_written_see_all_of_it(
    site: Site, call: Callable[[Store], object]
) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    with pytest.raises(StoreDownError):
        call(store)
    site.back()
    call(store)
    assert store.waiting_bytes == 0
    store.close()


def test_a_batch_that_the_store_took_although_it_seemed_down_counts_once(
    site: Site, tmp_path: Path
) -> None:
    """A connection that breaks at the very end leaves a batch durable and not acknowledged."""
    site.world.write(batch(0))
    store = site.spooling()
    site.world.down = True
    store.write(batch(0))
    site.back()
    store.write(batch(1))
    store.close()
    assert site.rows() == written(tmp_path, batch(0), batch(1))


async def test_requests_are_acknowledged_while_the_store_is_down(site: Site) -> None:
    """What the house does with it: the end is told once the charge is on disk, here in the file."""
    store = site.open(down=True)
    metering = Metering(
        store=store,
        pool=Pool(devices=(Device(index=0),), price=Price(nano_usd_per_device_hour=PRICE)),
        clock=Clock(),
        session="s1",
        interval_s=10,
        flush_s=10,
    )
    running = asyncio.create_task(metering.run())
    told: asyncio.Future[RequestRow] = asyncio.get_running_loop().create_future()
    metering.request_ended(request_row(0, 70), told.set_result)
    async with asyncio.timeout(10):
        row = await told
    assert (row, metering.down) == (request_row(0, 70), None)
    assert row.request_id.encode() in site.spool.read_bytes()
    await metering.finish()
    await running
    assert site.world.written == []
    store.close()
    site.open().close()
    assert [one[0] for one in site.rows()["requests"]] == [row.request_id]
    assert len(site.rows()["intervals"]) == 1


# A bound on the file.


def test_a_full_spool_fails_closed_and_opens_again(site: Site, tmp_path: Path) -> None:
    store = site.open(5_000, down=True)
    number = 0
    with pytest.raises(StoreDownError, match=r"is full: it has \d+ of 5000 bytes.*spool_mib"):
        for number in range(100):
            store.write(batch(number, opened=False))
    assert 0 < number < 10
    assert site.spool.stat().st_size <= 5_000
    site.back()
    for later in range(number, number + 3):
        store.write(batch(later, opened=False))
    store.close()
    assert site.rows() == written(
        tmp_path, *(batch(later, opened=False) for later in range(number + 3))
    )


def test_a_batch_that_alone_is_too_long_leaves_no_file(site: Site) -> None:
    store = site.open(100, down=True)
    with pytest.raises(StoreDownError, match="is full"):
        store.write(batch(0))
    assert not site.spool.exists()
    store.close()


def test_a_folder_that_cannot_be_written_fails_closed(site: Site) -> None:
    site.spool = site.folder / "gone" / "spool"
    site.spool.parent.mkdir()
    store = site.open(down=True)
    site.spool.parent.rmdir()
    with pytest.raises(StoreDownError, match=r"does not answer.*spool.*cannot be written"):
        store.write(batch(0))
    store.close()


def test_open_intervals_that_were_replaced_do_not_fill_the_spool(
    site: Site, tmp_path: Path
) -> None:
    """Hours of open intervals fit in little more than the closed ones and the last open one."""
    lines = {request_account(number): number for number in range(20)}
    opens = [
        Batch(session="s1", open=interval(1, {**lines, TRAINING: beat})) for beat in range(1_000)
    ]
    last = batch(1, opened=False)
    assert len(encoded(opens[0], "s1")[1]) * 1_000 > 2 * MIB
    store = site.open(100_000, down=True)
    store.write(batch(0, opened=False))
    for one in opens:
        store.write(one)
    assert site.spool.stat().st_size <= 100_000
    store.close()
    with closing(site.open()) as store:
        (crashed,) = store.crashed()
        assert crashed.interval == opens[-1].open
        store.write(last)
    assert site.rows() == written(tmp_path, batch(0, opened=False), opens[-1], last)


def test_the_last_open_interval_is_kept_when_the_others_are_taken_out(site: Site) -> None:
    store = site.open(20_000, down=True)
    beat = 0
    while site.spool.exists() is False or site.spool.stat().st_size < 19_000:
        beat += 1
        store.write(Batch(session="s1", open=interval(1, {TRAINING: beat})))
    rows = tuple(request_row(number, 1) for number in range(10))
    store.write(Batch(session="s1", requests=rows))
    assert site.spool.stat().st_size < 10_000
    store.close()
    with closing(site.open()) as store:
        (crashed,) = store.crashed()
        assert crashed.interval == interval(1, {TRAINING: beat})


def test_what_was_replayed_makes_room_while_the_rest_waits(site: Site, tmp_path: Path) -> None:
    """A replay that breaks off does not begin anew, and a full spool takes on what follows."""
    batches = [batch(number) for number in range(700)]
    room = 500_000
    store = site.open(room, down=True)
    number = 0
    with pytest.raises(StoreDownError, match="is full"):
        while True:
            store.write(batches[number])
            number += 1
    site.back()
    site.world.calls_left = 1
    store.write(batches[number])
    assert 0 < store.waiting_bytes < room // 2 + 5_000
    assert len(site.world.written) == 1
    site.world.calls_left = None
    site.back()
    for one in batches[number + 1 :]:
        store.write(one)
    store.close()
    assert site.rows() == written(tmp_path, *batches)


# Budgets.


def charge(number: int, price: int, window: Window) -> Batch:
    return Batch(session="s1", charges=(charge_row(number, price, windows=(window,)),))


def test_spooled_charges_count_once_in_their_windows(site: Site) -> None:
    made = budget("b", 100)
    window = window_of(made, Micros(START))
    store = site.open()
    store.save_budget(made)
    assert leased(store, window, 100) == 100
    site.world.down = True
    for number in range(10):
        store.write(charge(number, 7, window))
        store.write(charge(number, 7, window))
    with pytest.raises(StoreDownError):
        leased(store, window, 100)
    site.back()
    assert leased(store, window, 70) == 70
    assert standing(site) == (70, 70)
    store.close()


def outage_in_which_another_house_takes_the_money(
    site: Site, *, theirs: int
) -> tuple[SpoolingStore, Window]:
    made = budget("b", 100)
    window = window_of(made, Micros(START))
    store = site.open()
    store.save_budget(made)
    assert leased(store, window, 60) == 60
    site.world.down = True
    for number in range(3):
        store.write(charge(number, 20, window))
    there = open_store(site.books, house="there")
    assert leased(there, window, theirs, at=60 * MICROS) == theirs
    there.close()
    site.back()
    return store, window


def test_a_posting_whose_lease_is_lost_is_kept_and_charged_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    store, window = outage_in_which_another_house_takes_the_money(site, theirs=100)
    site.world.down = True
    row = request_row(9, 70_000_000, price=20, windows=(window,))
    store.write(Batch(session="s1", requests=(row,), closed=(interval(0, {}),)))
    site.back()
    assert store.job_totals()[0].price == 0
    assert standing(site)[1] == 0
    rows = site.rows()
    assert [one[0] for one in rows["charges"]] == [f"{JOB}/{number}" for number in range(3)]
    assert rows["requests"] == [
        (row.request_id, row.arrived, "done", 70_000_000, row.cost, 0, "lease lost")
    ]
    assert len(rows["intervals"]) == 1
    assert f"request {row.request_id}, told as 20 nano-USD, is charged 0" in caplog.text
    store.close()


def test_leases_are_renewed_before_a_replay_so_that_what_is_left_is_charged(
    site: Site,
) -> None:
    store, window = outage_in_which_another_house_takes_the_money(site, theirs=60)
    assert leased(store, window, 60, at=61 * MICROS) == 40
    assert store.waiting_bytes == 0
    assert standing(site) == (100, 40)
    assert [one[-1] for one in site.rows()["charges"]] == [20, 20, 0]
    store.close()


# Damage, and other houses.


def test_a_damaged_spool_refuses_to_start_and_changes_nothing(site: Site) -> None:
    store = site.open(down=True)
    for number in range(3):
        store.write(batch(number))
    store.close()
    content = bytearray(site.spool.read_bytes())
    content[len(content) // 2] ^= 1
    site.spool.write_bytes(content)
    with pytest.raises(StoreError, match=r"spool: the record at byte \d+ of \d+ is damaged"):
        site.open()
    assert site.world.written == []
    assert site.spool.read_bytes() == content


def test_a_torn_end_is_told_and_what_was_acknowledged_is_entered(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    store.write(batch(1))
    store.close()
    with site.spool.open("r+b") as file:
        file.truncate(site.spool.stat().st_size - 7)
    site.open().close()
    assert "never acknowledged" in caplog.text
    assert site.rows() == written(tmp_path, batch(0))


def test_a_record_that_the_store_refuses_is_told_with_its_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = site.open(down=True)
    store.write(batch(0, opened=False))
    store.write(Batch(session="s1", requests=(request_row(1, 70),)))
    store.close()
    world = site.new_world()
    write = world.write

    def choosy(batch: Batch) -> None:
        if any(row.request_id == "request-1" for row in batch.requests):
            raise StoreError("no row like that")
        write(batch)

    monkeypatch.setattr(world, "write", choosy)
    with pytest.raises(StoreError, match=r"refuses the record at byte \d+: no row like that"):
        site.spooling()
    assert site.spool.exists()


def test_a_session_that_another_house_closed_keeps_what_its_clients_were_told(site: Site) -> None:
    """A house dies with a spool, another recovers its session; then the first one comes back."""
    whole = interval(1, {TRAINING: 5, request_account(1): 70})
    half = replace(
        whole, ended=Micros(whole.ended - 500_000), capacity_nanos=DeviceNanos(5 * 10**8)
    )
    half = recovered(replace(half, lines=()), ())
    store = site.spooling()
    store.lease((), now=Micros(START), until=Micros(START + 1))
    store.write(Batch(closed=(interval(0, {}),), open=half))
    site.world.down = True
    store.write(Batch(session="s1", closed=(whole,), requests=(request_row(1, 70),)))
    store.write(Batch(session="s1", closed=(interval(2, {request_account(2): 70}),)))
    store.write(Batch(session="s1", requests=(request_row(2, 70),)))
    store.close()
    with closing(open_store(site.books, house="another")) as another:
        for one in another.crashed():
            made = recovered(one.interval, one.suspended, one.acknowledged)
            another.write(Batch(closed=(made,)))
    with closing(site.open()) as back:
        (crashed,) = back.crashed()
        assert {one.account.request for one in crashed.acknowledged} == {"request-1", "request-2"}
        made = recovered(crashed.interval, crashed.suspended, crashed.acknowledged)
        back.write(Batch(closed=(made,)))
        assert back.crashed() == []
    report = check(site.books)
    assert report.balanced, report
    assert report.requests == 2


def test_what_no_store_can_store_is_refused_at_once(site: Site) -> None:
    store = site.open(down=True)
    for row in (
        replace(request_row(0, 1), device_nanos=2**70),
        replace(request_row(0, 1), stopped="\ud800"),
    ):
        with pytest.raises(StoreError, match="cannot be stored"):
            store.write(Batch(session="s1", requests=(row,)))
    with pytest.raises(ValueError, match="name its session"):
        store.write(Batch(requests=(request_row(0, 1),)))
    store.close()


def test_houses_with_homes_of_their_own_do_not_share_a_spool(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    there = Site(folder, house="there", books=site.books)
    stores = (site.open(down=True), there.open(down=True))
    for index, (store, session) in enumerate(zip(stores, ("s1", "s2"), strict=True)):
        store.write(Batch(closed=(interval(0, {TRAINING: index + 1}, session=session),), losses=()))
    for one, store, nanos in zip((site, there), stores, (1, 2), strict=True):
        one.back()
        assert [total.device_nanos for total in store.job_totals()] == [nanos]
        store.close()


def test_a_second_house_on_one_spool_is_refused(site: Site) -> None:
    store = site.open(down=True)
    store.write(batch(0))
    with pytest.raises(StoreError, match="two houses cannot share"):
        site.open()
    store.close()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Path("/srv/home/books.sqlite"), "books.sqlite"),
        ("/srv/other.sqlite", "/srv/other.sqlite"),
        ("postgresql://meted:s3cret@db:5432/books?sslmode=require", "db:5432/books"),
        ("postgresql://db/books", "db/books"),
    ],
)
def test_books_are_named_without_who_connects(target: str | Path, name: str) -> None:
    assert books_name(target) == name
