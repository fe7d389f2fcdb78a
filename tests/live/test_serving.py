"""The hot path: every request ends once, is charged once, and survives its replica's death."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from serving_world import NAME, World, events

from meted.domain.line import Interval, Kind
from meted.domain.request import FinishReason, Outcome
from meted.domain.units import DeviceNanos, ReplicaId
from meted.live.doors import Begun, Delta, Ended, HouseError
from meted.live.host import WorkerEnd
from meted.live.wire import Add, Admitted, Cancel, Rejected


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    writing = asyncio.create_task(made.metering.run())
    yield made
    await made.metering.finish()
    await writing
    made.store.close()


def total(interval: Interval, kind: Kind) -> int:
    return sum(line.device_nanos for line in interval.lines if line.account.kind is kind)


async def test_a_request_is_answered_and_charged_once(world: World) -> None:
    world.replica()
    ticket = world.ask(1)
    world.hear("m-1", Admitted("r1", 5))
    world.step("m-1", "r1")
    world.step("m-1", "r1", finish=FinishReason.STOP)
    begun, first, second, ended = await events(ticket)
    assert begun == Begun(prompt_tokens=5)
    assert isinstance(first, Delta) and isinstance(second, Delta) and isinstance(ended, Ended)
    assert ended.usage.device_nanos == 2000
    assert ended.usage.completion_tokens == 2
    interval = await world.closed()
    assert total(interval, Kind.REQUEST) == 2000
    assert world.traffic == [True, False]


async def test_a_step_is_shared_by_the_requests_in_it(world: World) -> None:
    world.replica()
    tickets = [world.ask(1), world.ask(2)]
    world.step("m-1", "r1", "r2", nanos=1001, finish=FinishReason.LENGTH)
    ended = [(await events(ticket))[-1] for ticket in tickets]
    assert sorted(e.usage.device_nanos for e in ended if isinstance(e, Ended)) == [500, 501]


async def test_a_full_queue_refuses_with_a_time_to_come_back(world: World) -> None:
    world.ask(1)
    world.ask(2)
    with pytest.raises(HouseError, match="2 of 2 places taken") as refused:
        world.ask(3)
    assert refused.value.status == 503
    assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1


async def test_an_unknown_deployment_is_named_with_those_there_are(world: World) -> None:
    world.serving.deployments.pop(NAME)
    with pytest.raises(HouseError, match="'m' does not exist; there are: none") as refused:
        world.ask(1)
    assert (refused.value.status, refused.value.param) == (404, "model")


async def test_a_killed_replicas_unanswered_request_is_retried_unseen(world: World) -> None:
    world.replica()
    ticket = world.ask(1)
    world.step("m-1", nanos=700)
    end = WorkerEnd(cpu_nanos=DeviceNanos(1500), reason="killed by SIGKILL")
    world.serving.replica_ended(ReplicaId("m-1"), NAME, end)
    fresh = world.replica("m-2")
    assert [type(frame) for frame in fresh.sent] == [Add]
    world.step("m-2", "r1", finish=FinishReason.STOP)
    ended = (await events(ticket))[-1]
    assert isinstance(ended, Ended) and ended.outcome is Outcome.DONE
    interval = await world.closed()
    assert total(interval, Kind.REQUEST) == 1000
    assert total(interval, Kind.LOST) == 800


async def test_a_killed_replicas_half_answered_request_fails_and_costs_nothing(
    world: World,
) -> None:
    world.replica()
    ticket = world.ask(1)
    world.step("m-1", "r1")
    end = WorkerEnd(cpu_nanos=DeviceNanos(1000), reason="killed by SIGKILL")
    world.serving.replica_ended(ReplicaId("m-1"), NAME, end)
    ended = (await events(ticket))[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED and ended.usage.cost == 0
    assert ended.error is not None and "SIGKILL" in ended.error
    interval = await world.closed()
    assert total(interval, Kind.REQUEST) == 0
    assert total(interval, Kind.LOST) == 1000


async def test_a_request_is_tried_at_most_twice(world: World) -> None:
    ticket = world.ask(1)
    for number in (1, 2):
        world.replica(f"m-{number}")
        end = WorkerEnd(cpu_nanos=DeviceNanos(0), reason="killed by SIGKILL")
        world.serving.replica_ended(ReplicaId(f"m-{number}"), NAME, end)
    ended = (await events(ticket))[-1]
    assert isinstance(ended, Ended) and ended.outcome is Outcome.FAILED


async def test_cancelling_a_waiting_request_ends_it_at_once(world: World) -> None:
    ticket = world.ask(1)
    ticket.cancel()
    ticket.cancel()
    (ended,) = await events(ticket)
    assert isinstance(ended, Ended) and ended.outcome is Outcome.CANCELLED
    assert world.serving.in_flight == 0


async def test_cancelling_a_running_request_bills_what_it_used(world: World) -> None:
    line = world.replica()
    ticket = world.ask(1)
    world.step("m-1", "r1")
    ticket.cancel()
    assert isinstance(line.sent[-1], Cancel)
    world.step("m-1", "r1", finish=FinishReason.CANCELLED)
    ended = (await events(ticket))[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.CANCELLED and ended.usage.device_nanos == 2000
    ticket.cancel()


async def test_a_rejection_reaches_the_client_with_its_field(world: World) -> None:
    world.replica()
    ticket = world.ask(1)
    world.hear("m-1", Rejected("r1", "too long", "messages", "context_length_exceeded"))
    assert ticket.next_nowait() is None
    with pytest.raises(HouseError, match="too long") as refused:
        await ticket.next()
    assert (refused.value.status, refused.value.param) == (400, "messages")
    assert world.serving.in_flight == 0


async def test_draining_waits_for_the_last_request(world: World) -> None:
    world.replica()
    ticket = world.ask(1)
    world.serving.drain(ReplicaId("m-1"))
    assert world.drained == []
    world.step("m-1", "r1", finish=FinishReason.STOP)
    await events(ticket)
    assert world.drained == ["m-1"]


async def test_time_in_no_ones_step_is_the_houses_overhead(world: World) -> None:
    world.replica()
    world.step("m-1", nanos=300)
    interval = await world.closed()
    on_engine = [line for line in interval.lines if line.account.deployment == NAME]
    assert [(line.account.kind, line.device_nanos) for line in on_engine] == [(Kind.OVERHEAD, 300)]
