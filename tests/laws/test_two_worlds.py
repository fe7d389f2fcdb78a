"""One policy, two worlds: the house and the simulator decide the same at the same moments.

The house is the real one, with its control loop, queue, meter and books; only the clock and the
processes are played. The simulator runs the same trace. What is compared is every effect of control
on a worker: kind, name, devices, way of harvesting and moment, to the microsecond; when each
request ended; and all that a policy saw of the deployment at each decision. What is counted is
equal; what is fitted is nearly so, because the house fits to each step and the simulator to a few
of them. Both begin with the same step time. Reasons are not compared: they hold fitted numbers.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meted.control.effects import (
    DrainReplica,
    Effect,
    PauseJob,
    PlaceJob,
    PlaceReplica,
    ResumeJob,
    StartJob,
    StartReplica,
    StopJob,
    StopReplica,
)
from meted.control.events import DemandSeen, Deployed, Event, JobSubmitted
from meted.domain.allocation import DeploymentDemand, JobOption, ReplicaOption
from meted.domain.deployment import Deployment, Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.job import JobProgress, TrainingSpec
from meted.domain.request import ChatPrompt, FinishReason, Message, Sampling
from meted.domain.tenancy import Payer
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    RequestId,
    TenantName,
)
from meted.live.clock import Clock
from meted.live.doors import Submission
from meted.live.host import OnEnd, OnMessage, Urgency, WorkerEnd, WorkerSpec
from meted.live.house import House, HouseSettings
from meted.live.jobs import JobTotals
from meted.live.stores import open_store
from meted.live.wire import (
    Add,
    Admitted,
    Finished,
    Frame,
    Output,
    Planned,
    Ready,
    Share,
    Stepped,
    Stop,
)
from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.predict.batching import Arrival, Batcher, Served
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.observing import DEVIATION
from meted.sim.scenario import Scenario, SimDeployment, SimJob, SimRequest, Table
from meted.sim.world import World
from meted.testing.builders import make_pool, make_slo

SECOND = 1_000_000
CHAT = DeploymentName("chat")
LOAD = 3 * SECOND + 500_001
RESTART = 2 * SECOND + 300_001
STEPS_PER_SECOND = 10.0
HORIZON = 640 * SECOND
POOL = make_pool(devices=2)
COST = StepCost(fixed=10_000, prefill=100, decode=0, context=1)
"""Whole microseconds for each unit: no world rounds."""
MODEL = ReplicaModel(step=COST, kv_tokens=1_000_000, chunk_tokens=256, max_batch=4)
COUNTED = ("replicas", "queued", "running", "starting", "draining", "least", "most", "quiet")
FITTED = ("arrivals_per_second", "utilisation", "tokens_per_second")
NEAR = 5e-4


def deployment(*, least: int, ttft_ms: int) -> Deployment:
    return Deployment(
        name=CHAT,
        checkpoint="chat",
        task=Task.GENERATE,
        replicas=1,
        slo=make_slo(ttft_ms=ttft_ms, tpot_ms=200),
        max_batch=MODEL.max_batch,
        max_queue=1_000,
        least=least,
        most=2,
        settings=EngineSettings(engine="meted.testing.fake_engine:FakeEngine"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A policy for a deployment, and the ways of harvesting that the trace makes it use."""

    policy: DemandPolicy | PerformancePolicy
    harvests: frozenset[str]
    least: int = 0
    ttft_ms: int = 2_000
    drains_at_work: bool = False
    """Whether a replica that is to leave still has requests at the next decision."""

    @property
    def deployment(self) -> Deployment:
        return deployment(least=self.least, ttft_ms=self.ttft_ms)


CASES = {
    "demand": Case(policy=DemandPolicy(), harvests=frozenset({"none", "gaps", "idle"})),
    "demand, always one": Case(
        policy=DemandPolicy(), harvests=frozenset({"none", "gaps", "idle"}), least=1
    ),
    "demand, soon unloaded": Case(
        policy=DemandPolicy(keep_warm_s=12, scale_window_s=5),
        harvests=frozenset({"none", "gaps", "idle"}),
        drains_at_work=True,
    ),
    "performance": Case(
        policy=PerformancePolicy(), harvests=frozenset({"gaps", "idle"}), ttft_ms=100
    ),
}

Row = tuple[int, str, str, tuple[int, ...], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in order, and jobs with their arrival and steps."""

    requests: Sequence[SimRequest]
    jobs: Sequence[tuple[JobName, int, int]]


def make_trace(seed: int) -> Trace:
    """A job that ends before the first request; one that meets three bursts and outlives them.

    Each burst leaves a thin stream of long answers, in which a replica drains that has some. One
    that is kept warm for five minutes is unloaded before the last burst.
    """
    random = np.random.default_rng(seed)
    requests: list[SimRequest] = []
    for second in (40, 140, 540):
        begin = second + random.uniform(0, 5)
        burst = [(begin + after, 20, 200) for after in random.uniform(0, 15, 60)]
        stream = [(begin + after, 400, 1_200) for after in random.uniform(15, 75, 8)]
        for at, least, most in burst + stream:
            prompt, output = random.integers(5, 600), random.integers(least, most)
            requests.append(SimRequest(Micros(int(at * SECOND)), int(prompt), int(output)))
    return Trace(
        requests=sorted(requests, key=lambda one: one.at),
        jobs=(
            (JobName("first"), 5 * SECOND + 7, 200),
            (JobName("second"), 33 * SECOND + 7, 1_000_000),
        ),
    )


def row(at: int, effect: Effect) -> Row | None:
    """An effect on a worker, as both worlds tell it."""
    kind = type(effect).__name__
    match effect:
        case StartReplica(replica=replica, devices=devices):
            return at, kind, replica.id, devices, ""
        case PlaceReplica(replica=replica, devices=devices):
            return at, kind, replica, devices, ""
        case DrainReplica(replica=replica) | StopReplica(replica=replica):
            return at, kind, replica, (), ""
        case StartJob(allocation=allocation) | PlaceJob(allocation=allocation):
            return at, kind, allocation.job, allocation.devices, allocation.harvest
        case PauseJob(name=name) | ResumeJob(name=name) | StopJob(name=name):
            return at, kind, name, (), ""
        case _:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What happened in a world: effects, ends of requests, and what the policy saw."""

    rows: list[Row]
    ends: list[int]
    seen: list[DeploymentDemand]


# The simulator.


class RecordedWorld(World):
    """The simulator, and what control wanted of it."""

    def __init__(self, scenario: Scenario) -> None:
        self.rows: list[Row] = []
        self.seen: list[DeploymentDemand] = []
        super().__init__(scenario)

    def happen(self, event: Event) -> None:
        if isinstance(event, DemandSeen):
            self.seen += event.deployments
        super().happen(event)

    def _execute(self, effect: Effect) -> None:
        if (told := row(self.now, effect)) is not None:
            self.rows.append(told)
        super()._execute(effect)


def simulated(case: Case, trace: Trace) -> Log:
    option = ReplicaOption(kind="cpu-core", devices=2, requests_per_second=1.0, load=Micros(LOAD))
    pace = JobOption(kind="cpu-core", devices=2, steps_per_second=STEPS_PER_SECOND)
    world = RecordedWorld(
        Scenario(
            pool=POOL,
            policy=case.policy,
            interval=Micros(SECOND),
            deployments=[
                SimDeployment(
                    deployment=case.deployment,
                    options=(option,),
                    replicas={("cpu-core", 2): MODEL},
                    requests=trace.requests,
                )
            ],
            jobs=[
                SimJob(
                    name=name,
                    arrived=Micros(arrived),
                    steps=steps,
                    model=Table(rows=(pace,)),
                    restart=Micros(RESTART),
                )
                for name, arrived, steps in trace.jobs
            ],
            horizon=Micros(HORIZON),
        )
    )
    (served,) = world.run().deployments
    assert served.refused == served.unfinished == 0
    return Log(
        rows=sorted(world.rows),
        ends=sorted(one.last_token for one in served.served),
        seen=world.seen,
    )


# The house.


class PlayedClock(Clock):
    """A clock that stands where the stage puts it."""

    def __init__(self) -> None:
        self.at = 0
        super().__init__()

    def now(self) -> Micros:
        return Micros(self.at)


class Stage:
    """What is to happen when, and the host whose workers are played."""

    def __init__(self) -> None:
        self.clock = PlayedClock()
        self.ends: list[int] = []
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._made = 0

    def schedule(self, at: int, action: Callable[[], object]) -> None:
        self._made += 1
        heappush(self._queue, (at, self._made, action))

    async def run(self, until: int) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.clock.at, _, action = heappop(self._queue)
            action()
            for _ in range(4):
                await asyncio.sleep(0)

    async def start(self, spec: WorkerSpec, on_message: OnMessage, on_end: OnEnd) -> "Played":
        if "--spec" in spec.arguments:
            return PlayedTrainer(self, spec, on_message, on_end)
        return PlayedReplica(self, spec, on_message, on_end)


class Played:
    """A worker without a process; a message of it comes a turn of the loop after its start."""

    pid = 0

    def __init__(
        self, stage: Stage, spec: WorkerSpec, on_message: OnMessage, on_end: OnEnd
    ) -> None:
        self.stage, self.spec = stage, spec
        self.tell, self.on_end = on_message, on_end
        self.cpu = 0
        self.gone = False

    def send(self, frame: Frame) -> None:
        if isinstance(frame, Stop):
            self.later(0, self.end)

    def later(self, micros: int, action: Callable[[], object]) -> None:
        self.stage.schedule(self.stage.clock.at + micros, lambda: None if self.gone else action())

    def end(self) -> None:
        self.gone = True
        self.on_end(WorkerEnd(cpu_nanos=DeviceNanos(self.cpu), reason="it was stopped"))

    def cpu_nanos(self) -> DeviceNanos:
        return DeviceNanos(self.cpu)

    def place(self, devices: Sequence[int], urgency: Urgency) -> None:
        pass

    def freeze(self) -> None:
        pass

    thaw = kill = freeze


class PlayedReplica(Played):
    """An engine that batches as the simulator's replica does, and reports each step at its end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.batcher = Batcher(replica=MODEL)
        self.inside: dict[int, tuple[str, Served]] = {}
        self.done: dict[int, tuple[int, int]] = {}
        self.stepping = False
        self.later(LOAD, lambda: self.tell(Ready("generate", 8_192, MODEL.max_batch, self.cpu)))

    def send(self, frame: Frame) -> None:
        super().send(frame)
        if isinstance(frame, Add):
            prompt, output = lengths_of(frame)
            served = Served(Arrival(self.stage.clock.now(), prompt, output))
            self.batcher.add(served)
            self.inside[id(served)] = (frame.request_id, served)
            self.done[id(served)] = (0, 0)
            self.later(0, lambda: self.tell(Admitted(frame.request_id, prompt)))
            self.step()

    def step(self) -> None:
        """Run one step, unless one runs."""
        if self.stepping or self.batcher.idle:
            return
        self.stepping = True
        began = self.batcher.now = self.stage.clock.at
        ended = self.batcher.advance(began + 1)
        now = {id(served): (prompt, made) for served, prompt, made in self.batcher.progress()}
        for served in ended:
            now[id(served)] = (served.arrival.prompt_tokens, served.arrival.output_tokens)
        shares = tuple(self.share(key, *counts) for key, counts in now.items())
        self.done |= now
        outputs = tuple(
            Output(self.inside[id(one)][0], text="x", finish_reason=FinishReason.LENGTH)
            for one in ended
        )
        self.later(self.batcher.now - began, lambda: self.stepped(began, shares, outputs))

    def share(self, key: int, prompt: int, made: int) -> Share:
        request, served = self.inside[key]
        prompt_before, made_before = self.done[key]
        context = prompt if prompt > prompt_before else served.arrival.prompt_tokens + made - 2
        return Share(request, prompt - prompt_before, 0, made - made_before, context)

    def stepped(self, began: int, shares: tuple[Share, ...], outputs: tuple[Output, ...]) -> None:
        took = self.stage.clock.at - began
        start, self.cpu = self.cpu, self.cpu + took * 2_000
        self.stage.ends += [self.stage.clock.at] * len(outputs)
        self.stepping = False
        self.tell(
            Stepped(
                started_us=began,
                duration_us=took,
                cpu_start_ns=start,
                cpu_end_ns=self.cpu,
                shares=shares,
                outputs=outputs,
                cache_usage=0.0,
            )
        )
        self.step()


def lengths_of(frame: Add) -> tuple[int, int]:
    """Prompt and output tokens of a request; the prompt has one letter for each."""
    tokens = frame.sampling.max_tokens
    assert tokens is not None
    assert frame.messages is not None
    return len(frame.messages[0].content), tokens


class PlayedTrainer(Played):
    """Trains at the pace that the simulator's job has while nobody is served."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        arguments = self.spec.arguments
        steps = json.loads(arguments[arguments.index("--spec") + 1])["steps"]
        self.later(RESTART, lambda: self.tell(Planned(steps, 0, 1, 1)))
        self.later(RESTART + round(steps / STEPS_PER_SECOND * SECOND), self.done)

    def done(self) -> None:
        self.tell(Finished("it", self.cpu))
        self.end()


class RecordedHouse(House):
    """The house, and what control wanted of it."""

    rows: list[Row]
    seen: list[DeploymentDemand]

    def happen(self, event: Event) -> None:
        if isinstance(event, DemandSeen):
            self.seen += event.deployments
        super().happen(event)

    def _execute(self, effect: Effect) -> None:
        if (told := row(self.clock.now(), effect)) is not None:
            self.rows.append(told)
        super()._execute(effect)


async def lived(case: Case, trace: Trace, folder: Path) -> Log:
    stage = Stage()
    books = folder / "books.sqlite"
    with closing(open_store(books, house="here")) as store:
        house = RecordedHouse(
            settings=HouseSettings(
                pool=POOL,
                policy_name="demand",
                policy=case.policy,
                books=books,
                checkpoints=folder,
                jobs=folder,
                calibrations=folder,
            ),
            store=store,
            key_store=store,
            host=stage,
            clock=stage.clock,
        )
        house.rows, house.seen = [], []
        house.metering_loop = house.spawn(house.metering.run())
        house.happen(Deployed(now=Micros(0), deployment=case.deployment))
        watch = house.serving.deployments[CHAT].watch
        watch.believe(COST, deviation=DEVIATION, threads=len(POOL.devices))
        for number, request in enumerate(trace.requests):
            stage.schedule(request.at, lambda n=number, r=request: submit(house, n, r))
        for name, arrived, steps in trace.jobs:
            stage.schedule(arrived, lambda n=name, s=steps: train(house, n, s))
        for moment in range(0, HORIZON + 1, SECOND):
            stage.schedule(moment, house.decide)
        await stage.run(HORIZON)
        assert not house.failed
        assert house.serving.in_flight == 0
        assert len(house.serving.take_finishes()) == len(trace.requests)
        await house.metering.finish()
    return Log(rows=sorted(house.rows), ends=sorted(stage.ends), seen=house.seen)


def submit(house: House, number: int, request: SimRequest) -> None:
    house.serving.submit(
        Submission(
            request_id=RequestId(f"r{number}"),
            payer=Payer(tenant=TenantName("acme"), key=KeyId("k")),
            deployment=CHAT,
            prompt=ChatPrompt(
                messages=(Message(role="user", content="a" * request.prompt_tokens),)
            ),
            sampling=Sampling(max_tokens=request.output_tokens),
        )
    )


def train(house: House, name: JobName, steps: int) -> None:
    spec = TrainingSpec(name=name, base="", data="", tenant=TenantName(""), steps=steps)
    house.happen(JobSubmitted(now=house.clock.now(), spec=spec))
    house.jobs_live.add(spec, JobProgress(), JobTotals())


def assert_seen_alike(lived: DeploymentDemand, simulated: DeploymentDemand, at: int) -> None:
    """What the policy saw in both worlds at decision number `at`."""

    def about(value: float) -> Any:
        return pytest.approx(value, rel=NEAR, abs=1e-9)

    for name in COUNTED:
        assert getattr(lived, name) == getattr(simulated, name), f"{name} at {at} s"
    for name in FITTED:
        assert getattr(lived, name) == about(getattr(simulated, name)), f"{name} at {at} s"
    for mine, other in zip(lived.predicted, simulated.predicted, strict=True):
        assert (mine.harvest, mine.samples) == (other.harvest, other.samples), f"at {at} s"
        assert mine.ttft_p95 == about(other.ttft_p95), f"TTFT beside {mine.harvest} at {at} s"
        assert mine.tpot_p95 == about(other.tpot_p95), f"TPOT beside {mine.harvest} at {at} s"
    (mine,), (other,) = lived.options, simulated.options
    assert (mine.kind, mine.devices, mine.load) == (other.kind, other.devices, other.load)
    assert mine.requests_per_second == about(other.requests_per_second), f"capacity at {at} s"


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
async def test_the_house_and_the_simulator_decide_the_same_at_the_same_moments(
    name: str, seed: int, tmp_path: Path
) -> None:
    case, trace = CASES[name], make_trace(seed)
    expected = simulated(case, trace)
    kinds = {one[1] for one in expected.rows}
    assert {"StartReplica", "DrainReplica", "StopReplica", "StartJob", "PlaceJob"} <= kinds
    assert case.harvests <= {one[4] for one in expected.rows if one[1] == "PlaceJob"}
    assert max(one.replicas for one in expected.seen) == 2
    assert (0 in {one.replicas for one in expected.seen[100:]}) == (case.least == 0)
    assert any(one.draining for one in expected.seen) >= case.drains_at_work
    found = await lived(case, trace, tmp_path)
    assert found.rows == expected.rows
    assert found.ends == expected.ends
    assert len(found.seen) == len(expected.seen)
    for at, (mine, other) in enumerate(zip(found.seen, expected.seen, strict=True)):
        assert_seen_alike(mine, other, at)
