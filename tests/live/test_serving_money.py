"""The hot path under budgets: money before work, a stop when it is gone, the end once durable."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from serving_world import NAME, WINDOW, World, events

from meted.domain.request import FinishReason, Outcome
from meted.domain.units import ProjectName
from meted.ledger.rates import RateCard
from meted.live import serving as serving_module
from meted.live.doors import Ended, HouseError
from meted.live.store import Batch, StoreDownError
from meted.live.wire import Add, Admitted, Cancel

TOKEN = RateCard(input=0, cached_input=0, output=1_000_000, training=0)
"""A nano-dollar thousandfold: 1000 nano-USD for an output token."""


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.rates(TOKEN)
    writing = asyncio.create_task(made.metering.run())
    yield made
    await made.metering.finish()
    await writing
    made.store.close()


def last(found: object) -> Ended:
    assert isinstance(found, Ended)
    return found


async def test_a_budget_that_is_spent_refuses_with_its_numbers(world: World) -> None:
    await world.budget(9_999)
    world.replica()
    with pytest.raises(HouseError, match="budget 'b'") as refused:
        world.ask(1, max_tokens=10)
    error = refused.value
    assert (error.status, error.code) == (402, "budget_exceeded")
    assert error.details["limit_usd"] == "0.000009999"
    assert error.details["wanted_usd"] == "0.000010000"
    assert error.details["resets_at"] is None
    assert world.serving.in_flight == 0


async def test_the_worst_case_is_set_aside_and_the_rest_comes_back(world: World) -> None:
    await world.budget(10_000)
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    assert world.desk.transfers.balance(WINDOW).pending == 10_000
    world.hear("m-1", Admitted("r1", 3))
    world.step("m-1", "r1")
    world.step("m-1", "r1", finish=FinishReason.STOP)
    ended = last((await events(ticket))[-1])
    assert ended.usage.price == 2_000
    balance = world.desk.transfers.balance(WINDOW)
    assert (balance.pending, balance.posted) == (0, 2_000)
    (standing,) = world.store.standings(now=world.metering._clock.wall())
    assert standing.all_spent == 2_000


async def test_a_request_waits_for_money_that_another_may_give_back(world: World) -> None:
    await world.budget(10_000)
    line = world.replica()
    first, second = world.ask(1, max_tokens=10), world.ask(2, max_tokens=8)
    assert [type(frame) for frame in line.sent] == [Add]
    world.step("m-1", "r1", finish=FinishReason.STOP)
    await events(first)
    assert [type(frame) for frame in line.sent] == [Add, Add]
    world.step("m-1", "r2", finish=FinishReason.STOP)
    assert last((await events(second))[-1]).outcome is Outcome.DONE


async def test_who_waits_for_money_holds_nobody_else_up(world: World) -> None:
    await world.budget(10_000, project=ProjectName("default"))
    line = world.replica()
    world.ask(1, max_tokens=10)
    world.ask(2, max_tokens=10)
    world.ask(3, max_tokens=10, tenant="other")
    assert [frame.request_id for frame in line.sent if isinstance(frame, Add)] == ["r1", "r3"]


async def test_waiting_for_money_ends_with_a_time_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "MONEY_TIMEOUT_US", -1)
    await world.budget(10_000)
    world.replica()
    world.ask(1, max_tokens=10)
    second = world.ask(2, max_tokens=10)
    world.serving.expire()
    with pytest.raises(HouseError, match="reserved") as refused:
        await second.next()
    assert (refused.value.status, refused.value.code) == (429, "budget_reserved")
    assert refused.value.retry_after_s == 1


async def test_generation_stops_with_length_when_the_money_is_gone(world: World) -> None:
    """Without max_tokens a part is set aside at a time, and the next part is not to be had."""
    await world.budget(300_000)
    line = world.replica()
    ticket = world.ask(1)
    world.hear("m-1", Admitted("r1", 3))
    steps = 0
    while not any(isinstance(frame, Cancel) for frame in line.sent):
        world.step("m-1", "r1")
        steps += 1
    world.step("m-1", "r1")
    world.step("m-1", "r1", finish=FinishReason.CANCELLED)
    ended = last((await events(ticket))[-1])
    assert ended.outcome is Outcome.DONE
    assert ended.finish_reason is FinishReason.LENGTH
    assert ended.stopped == "b"
    assert 256 <= steps <= 300
    assert ended.usage.price <= 300_000
    (standing,) = world.store.standings(now=world.metering._clock.wall())
    assert standing.all_spent == ended.usage.price


async def test_who_leaves_pays_for_what_was_computed_and_the_rest_comes_back(world: World) -> None:
    await world.budget(10_000)
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    world.step("m-1", "r1")
    world.serving.remove_deployment(NAME)
    ticket.cancel()
    world.step("m-1", "r1", finish=FinishReason.CANCELLED)
    ended = last((await events(ticket))[-1])
    assert ended.outcome is Outcome.CANCELLED
    assert ended.usage.price == 2_000
    balance = world.desk.transfers.balance(WINDOW)
    assert (balance.pending, balance.posted) == (0, 2_000)


async def test_a_soft_budget_alerts_once_and_refuses_nobody(world: World) -> None:
    await world.budget(2_000, hard=False)
    world.replica()
    for number in range(1, 5):
        ticket = world.ask(number, max_tokens=10)
        world.step("m-1", f"r{number}", finish=FinishReason.STOP)
        await events(ticket)
    assert [alert.threshold for alert in world.alerts] == [50, 100]


async def test_the_end_is_told_only_once_the_charge_is_durable(world: World) -> None:
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    write, allowed = world.store.write, asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(batch: Batch) -> None:
        if batch.requests:
            asyncio.run_coroutine_threadsafe(allowed.wait(), loop).result()
        write(batch)

    world.store.write = slow  # type: ignore[method-assign]
    world.step("m-1", "r1", finish=FinishReason.STOP)
    waiting = asyncio.create_task(events(ticket))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    allowed.set()
    assert last((await waiting)[-1]).outcome is Outcome.DONE


async def test_a_store_that_is_down_refuses_new_requests_and_loses_none(world: World) -> None:
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    write, down = world.store.write, True

    def failing(batch: Batch) -> None:
        if down:
            raise StoreDownError("the disk is full")
        write(batch)

    world.store.write = failing  # type: ignore[method-assign]
    world.step("m-1", "r1", finish=FinishReason.STOP)
    waiting = asyncio.create_task(events(ticket))
    while world.metering.down is None:
        await asyncio.sleep(0.01)
    with pytest.raises(HouseError, match="books cannot be written") as refused:
        world.ask(2)
    assert (refused.value.status, refused.value.code) == (503, "books_unavailable")
    assert not waiting.done()
    down = False
    assert last((await waiting)[-1]).outcome is Outcome.DONE
    assert world.metering.down is None


async def test_money_that_was_leased_away_meanwhile_is_not_charged(world: World) -> None:
    """A house that was out of touch too long charges nothing that another may have spent."""
    await world.budget(10_000)
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    world.store.reclaim()
    world.step("m-1", "r1", finish=FinishReason.STOP)
    ended = last((await events(ticket))[-1])
    assert ended.outcome is Outcome.DONE
    assert ended.usage.price == 0
    (standing,) = world.store.standings(now=world.metering._clock.wall())
    assert standing.all_spent == 0
