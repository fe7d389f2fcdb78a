"""Money for requests: the worst case first, more while they run, the price once at the end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from serving_world import NAME, WINDOW, World, events

from meted.domain.request import FinishReason
from meted.domain.units import BudgetName, Tokens
from meted.ledger.rates import RateCard
from meted.live import serving as serving_module
from meted.live.doors import Ended, HouseError
from meted.live.pricing import OPEN_ENDED_TOKENS
from meted.live.wire import Add, Admitted, Cancel

TOKEN = RateCard(input=0, cached_input=0, output=1_000_000, training=0)
"""1000 nano-USD for an output token."""
PROMPT = RateCard(input=1_000_000, cached_input=0, output=1_000_000, training=0)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    made.rates(TOKEN)
    writing = asyncio.create_task(made.metering.run())
    yield made
    await made.metering.finish()
    await writing
    made.store.close()


@contextmanager
def patience_is_over() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving_module, "MONEY_TIMEOUT_US", -1)
        yield


def pending(world: World) -> int:
    return world.desk.transfers.balance(WINDOW).pending


async def test_what_was_set_aside_for_a_longer_prompt_goes_back_once_it_is_counted(
    world: World,
) -> None:
    world.rates(PROMPT)
    await world.budget(1_000_000)
    world.replica()
    world.ask(1, max_tokens=10)
    guessed = pending(world)
    world.hear("m-1", Admitted("r1", 3))
    assert pending(world) == 13_000 < guessed


async def test_a_prompt_longer_than_guessed_is_charged_no_more_than_was_set_aside(
    world: World,
) -> None:
    world.rates(PROMPT)
    await world.budget(1_000_000)
    world.replica()
    ticket = world.ask(1, max_tokens=10)
    guessed = pending(world)
    world.hear("m-1", Admitted("r1", 5_000))
    world.step("m-1", "r1", finish=FinishReason.STOP)
    ended = (await events(ticket))[-1]
    assert isinstance(ended, Ended) and ended.usage.price == guessed
    assert world.desk.transfers.balance(WINDOW).posted == guessed


async def test_without_max_tokens_more_is_asked_for_before_it_is_needed(world: World) -> None:
    await world.budget(1_000_000)
    world.replica()
    world.serving.deployments[NAME].context_tokens = Tokens(0)
    world.ask(1)
    world.hear("m-1", Admitted("r1", 3))
    assert pending(world) == OPEN_ENDED_TOKENS * 1_000
    for _ in range(OPEN_ENDED_TOKENS - 32):
        world.step("m-1", "r1")
    assert pending(world) == OPEN_ENDED_TOKENS * 1_000
    world.step("m-1", "r1")
    generated = OPEN_ENDED_TOKENS - 32 + 1
    assert pending(world) == (generated + OPEN_ENDED_TOKENS) * 1_000


async def test_money_that_comes_back_in_time_lets_generation_go_on(world: World) -> None:
    """Another request holds the rest when more is asked for, and ends before it is needed."""
    await world.budget((OPEN_ENDED_TOKENS + 50) * 1_000)
    line = world.replica()
    world.ask(1)
    other = world.ask(2, max_tokens=50)
    for _ in range(OPEN_ENDED_TOKENS - 10):
        world.step("m-1", "r1")
    assert not any(isinstance(frame, Cancel) for frame in line.sent)
    world.step("m-1", "r2", finish=FinishReason.STOP)
    await events(other)
    for _ in range(30):
        world.step("m-1", "r1")
    assert not any(isinstance(frame, Cancel) for frame in line.sent)


async def test_a_stop_for_money_is_one_refusal(world: World) -> None:
    await world.budget(OPEN_ENDED_TOKENS * 1_000)
    line = world.replica()
    world.ask(1)
    while not any(isinstance(frame, Cancel) for frame in line.sent):
        world.step("m-1", "r1")
    for _ in range(3):
        world.step("m-1", "r1")
    (gauge,) = world.desk.gauges()
    assert gauge.refusals == 1
    assert sum(isinstance(frame, Cancel) for frame in line.sent) == 1


async def test_who_lacks_only_a_place_is_not_refused_for_money(world: World) -> None:
    """It was parked while the house learnt how its budget stands; then the replica was full."""
    await world.budget(1_000_000)
    world.desk.tick()
    world.ask(0, max_tokens=10)
    world.desk.transfers.forget(WINDOW)
    world.desk._leases.held.clear()  # pyright: ignore[reportPrivateUsage]
    line = world.replica()
    ticket = world.ask(1, max_tokens=10)
    assert not any(isinstance(frame, Add) for frame in line.sent)
    for replica in world.serving.deployments[NAME].replicas.values():
        replica.draining = True
    await asyncio.gather(*world.tasks)
    with patience_is_over():
        world.serving.expire()
    assert ticket.next_nowait() is None
    assert world.serving.in_flight == 2


async def test_who_waits_for_a_budget_that_is_removed_goes_on_and_is_charged(world: World) -> None:
    await world.budget(10_000)
    line = world.replica()
    first, second = world.ask(1, max_tokens=10), world.ask(2, max_tokens=10)
    assert [type(frame) for frame in line.sent] == [Add]
    world.store.remove_budget(BudgetName("b"))
    world.desk.load(world.store.budgets())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [type(frame) for frame in line.sent] == [Add, Add]
    for name, ticket in (("r1", first), ("r2", second)):
        world.step("m-1", name, finish=FinishReason.STOP)
        ended = (await events(ticket))[-1]
        assert isinstance(ended, Ended) and ended.usage.price == 1_000


async def test_who_began_without_a_budget_is_charged_outside_of_one_made_meanwhile(
    world: World,
) -> None:
    await world.budget(10_000)
    made = world.store.budgets()
    world.replica()
    world.ask(1, max_tokens=10)
    second = world.ask(2, max_tokens=10)
    world.store.remove_budget(BudgetName("b"))
    world.desk.load(world.store.budgets())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.store.save_budget(made[0])
    world.step("m-1", "r2", finish=FinishReason.STOP)
    ended = (await events(second))[-1]
    assert isinstance(ended, Ended) and ended.usage.price == 1_000
    (standing,) = world.store.standings(now=world.metering._clock.wall())
    assert (standing.spent, standing.all_spent) == (0, 1_000)


async def test_who_waited_for_the_store_is_told_so(world: World) -> None:
    """Not that there is no money: nobody knows."""
    await world.budget(10_000)
    world.replica()
    world.desk.transfers.forget(WINDOW)
    world.desk._leases.held.clear()  # pyright: ignore[reportPrivateUsage]
    world.desk._leases._asking = True  # pyright: ignore[reportPrivateUsage]
    ticket = world.ask(1, max_tokens=10)
    with patience_is_over():
        world.serving.expire()
    with pytest.raises(HouseError, match="could not learn") as refused:
        await ticket.next()
    assert (refused.value.status, refused.value.code) == (503, "budgets_unavailable")
