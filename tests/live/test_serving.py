"""The hot path: every request ends once, is charged once, and survives its replica's death."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from meted.domain.line import Account, Interval, Kind
from meted.domain.request import ChatPrompt, FinishReason, Message, Outcome, Sampling
from meted.domain.units import DeploymentName, DeviceNanos, ReplicaId, RequestId, TenantName
from meted.live.clock import Clock
from meted.live.doors import Begun, Delta, Ended, HouseError, RequestEvent, Submission
from meted.live.host import Urgency, WorkerEnd
from meted.live.metering import Metering
from meted.live.serving import Serving
from meted.live.stores import open_store
from meted.live.tickets import LiveTicket
from meted.live.wire import (
    Add,
    Admitted,
    Cancel,
    Frame,
    Output,
    Ready,
    Rejected,
    Share,
    Stepped,
)
from meted.testing.builders import make_deployment, make_pool

NAME = DeploymentName("m")


class Line:
    """A worker that only remembers what it was sent; the test plays its part."""

    pid = 0

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.cpu = 0

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def cpu_nanos(self) -> DeviceNanos:
        return DeviceNanos(self.cpu)

    def place(self, devices: Sequence[int], urgency: Urgency) -> None:
        raise AssertionError("serving does not place workers")

    def freeze(self) -> None:
        raise AssertionError("serving does not freeze replicas")

    thaw = kill = freeze


class World:
    """A serving path with lines for replicas."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "books.sqlite", house="here")
        clock = Clock()
        self.metering = Metering(
            store=self.store,
            pool=make_pool(),
            clock=clock,
            session="s",
            interval_s=1,
            flush_s=1,
        )
        self.drained: list[str] = []
        self.traffic: list[bool] = []
        self.serving = Serving(
            clock=clock,
            metering=self.metering,
            on_ready=lambda replica: None,
            on_drained=self.drained.append,
            on_traffic=self.traffic.append,
        )
        self.serving.add_deployment(make_deployment(max_queue=2))
        self.lines: dict[str, Line] = {}

    def replica(self, name: str = "m-1") -> Line:
        line = self.lines[name] = Line()
        self.serving.add_replica(ReplicaId(name), NAME, line)
        self.metering.worker_started(name, Account(kind=Kind.LOADING), line.cpu_nanos)
        self.hear(name, Ready("generate", 100, 4, 0))
        return line

    def hear(self, name: str, message: Frame) -> None:
        self.serving.receive(ReplicaId(name), NAME, message)

    def ask(self, number: int) -> LiveTicket:
        return self.serving.submit(
            Submission(
                request_id=RequestId(f"r{number}"),
                tenant=TenantName("acme"),
                key_id="k",
                deployment=NAME,
                prompt=ChatPrompt(messages=(Message(role="user", content="hi"),)),
                sampling=Sampling(),
            )
        )

    def step(self, name: str, *requests: str, nanos: int = 1000, **output: object) -> None:
        line = self.lines[name]
        start, line.cpu = line.cpu, line.cpu + nanos
        self.hear(
            name,
            Stepped(
                started_us=0,
                duration_us=10,
                cpu_start_ns=start,
                cpu_end_ns=line.cpu,
                shares=tuple(Share(r, 5, 0, 1, 6) for r in requests),
                outputs=tuple(
                    Output(r, text="x", finish_reason=output.get("finish")) for r in requests
                ),
                cache_usage=0.5,
            ),
        )

    async def closed(self) -> Interval:
        closed: list[Interval] = []
        self.metering.on_close = closed.append
        await self.metering.flush(close=True)
        return closed[-1]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.metering._writer.shutdown()
    made.store.close()


async def events(ticket: LiveTicket) -> list[RequestEvent]:
    """All events up to the end."""
    found: list[RequestEvent] = []
    while not found or not isinstance(found[-1], Ended):
        found.append(await ticket.next())
    return found


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
