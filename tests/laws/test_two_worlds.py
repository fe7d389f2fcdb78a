"""One policy, two worlds: the house and the simulator decide the same, at the same moments.

The house is the real one, with its control loop, queue, meter and books; only the clock and the
processes are played. The simulator runs the same trace. What is compared is every effect of control
on a worker: kind, name, devices, way of harvesting and moment, to the microsecond; and when each
request ended. Reasons are not: they tell how busy serving is, which the house predicts from fitted
step times and the simulator counts.
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
from meted.control.events import Deployed, JobSubmitted
from meted.domain.allocation import JobOption, ReplicaOption
from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
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
from meted.live.wire import Add, Finished, Frame, Output, Planned, Ready, Share, Stepped, Stop
from meted.policy.allocation.demand import DemandPolicy
from meted.predict.batching import Arrival, Batcher, Served
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.scenario import Scenario, SimDeployment, SimJob, SimRequest, Table
from meted.sim.world import World
from meted.testing.builders import make_pool

SECOND = 1_000_000
CHAT = DeploymentName("chat")
LOAD = 3 * SECOND + 500_001
RESTART = 2 * SECOND + 300_001
STEPS_PER_SECOND = 10.0
HORIZON = 150 * SECOND
POOL = make_pool(devices=2)
MODEL = ReplicaModel(
    step=StepCost(fixed=10_000, prefill=0.0, decode=0.0, context=0.0),
    kv_tokens=1_000_000,
    chunk_tokens=100_000,
    max_batch=1,
)
DEPLOYMENT = Deployment(
    name=CHAT,
    checkpoint="chat",
    task=Task.GENERATE,
    replicas=1,
    slo=DEFAULT_SLO,
    max_batch=1,
    max_queue=1_000,
    least=0,
    most=1,
)
POLICY = DemandPolicy(gaps_above=1.0, pause_above=1.0, pause_queue=3, hysteresis=0, keep_warm_s=12)
"""Its decisions follow from what both worlds count alike: queue, requests inside, quiet time."""

Row = tuple[int, str, str, tuple[int, ...], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in order, and jobs with their arrival and steps."""

    requests: Sequence[SimRequest]
    jobs: Sequence[tuple[JobName, int, int]]


def make_trace(seed: int) -> Trace:
    """A job that ends before the first request; one that meets two bursts and outlives them."""
    random = np.random.default_rng(seed)
    bursts = [40 + random.uniform(0, 5), 90 + random.uniform(0, 5)]
    moments = sorted(
        float(burst + after) for burst in bursts for after in random.uniform(0, 12, 14)
    )
    return Trace(
        requests=[
            SimRequest(Micros(int(at * SECOND)), 5, int(random.integers(20, 200))) for at in moments
        ],
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


# The simulator.


class RecordedWorld(World):
    """The simulator, and what control wanted of it."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.rows: list[Row] = []

    def _execute(self, effect: Effect) -> None:
        if (told := row(self.now, effect)) is not None:
            self.rows.append(told)
        super()._execute(effect)


def simulated(trace: Trace) -> tuple[list[Row], list[int]]:
    option = ReplicaOption(kind="cpu-core", devices=2, requests_per_second=1.0, load=Micros(LOAD))
    pace = JobOption(kind="cpu-core", devices=2, steps_per_second=STEPS_PER_SECOND)
    world = RecordedWorld(
        Scenario(
            pool=POOL,
            policy=POLICY,
            interval=Micros(SECOND),
            deployments=[
                SimDeployment(
                    deployment=DEPLOYMENT,
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
    return sorted(world.rows), sorted(one.last_token for one in served.served)


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
    """Answers one request at a time, in the time that the simulator's replica takes."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.later(LOAD, lambda: self.tell(Ready("generate", 8_192, 1, self.cpu)))

    def send(self, frame: Frame) -> None:
        super().send(frame)
        if isinstance(frame, Add):
            tokens = frame.sampling.max_tokens
            assert tokens is not None
            now = self.stage.clock.at
            batcher = Batcher(replica=MODEL)
            batcher.now = now
            batcher.add(Served(Arrival(now, 5, tokens)))
            batcher.advance()
            took = batcher.now - now
            self.later(took, lambda: self.answered(frame.request_id, tokens, took))

    def answered(self, request: str, tokens: int, took: int) -> None:
        began, self.cpu = self.cpu, self.cpu + took * 1_000
        self.stage.ends.append(self.stage.clock.at)
        self.tell(
            Stepped(
                started_us=self.stage.clock.at - took,
                duration_us=took,
                cpu_start_ns=began,
                cpu_end_ns=self.cpu,
                shares=(Share(request, 5, 0, tokens, 5 + tokens),),
                outputs=(Output(request, text="x", finish_reason=FinishReason.LENGTH),),
                cache_usage=0.0,
            )
        )


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

    def _execute(self, effect: Effect) -> None:
        if (told := row(self.clock.now(), effect)) is not None:
            self.rows.append(told)
        super()._execute(effect)


async def lived(trace: Trace, folder: Path) -> tuple[list[Row], list[int]]:
    stage = Stage()
    books = folder / "books.sqlite"
    with closing(open_store(books, house="here")) as store:
        house = RecordedHouse(
            settings=HouseSettings(
                pool=POOL,
                policy_name="demand",
                policy=POLICY,
                books=books,
                checkpoints=folder,
                jobs=folder,
                calibrations=folder,
                engines={CHAT: "meted.testing.fake_engine:FakeEngine"},
            ),
            store=store,
            key_store=store,
            host=stage,
            clock=stage.clock,
        )
        house.rows = []
        house.metering_loop = house.spawn(house.metering.run())
        house.happen(Deployed(now=Micros(0), deployment=DEPLOYMENT))
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
    return sorted(house.rows), sorted(stage.ends)


def submit(house: House, number: int, request: SimRequest) -> None:
    house.serving.submit(
        Submission(
            request_id=RequestId(f"r{number}"),
            payer=Payer(tenant=TenantName("acme"), key=KeyId("k")),
            deployment=CHAT,
            prompt=ChatPrompt(messages=(Message(role="user", content="hi"),)),
            sampling=Sampling(max_tokens=request.output_tokens),
        )
    )


def train(house: House, name: JobName, steps: int) -> None:
    spec = TrainingSpec(name=name, base="", data="", tenant=TenantName(""), steps=steps)
    house.happen(JobSubmitted(now=house.clock.now(), spec=spec))
    house.jobs_live.add(spec, JobProgress(), JobTotals())


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_house_and_the_simulator_decide_the_same_at_the_same_moments(
    seed: int, tmp_path: Path
) -> None:
    trace = make_trace(seed)
    rows, ends = simulated(trace)
    kinds = {one[1] for one in rows}
    assert {"StartReplica", "DrainReplica", "StopReplica", "StartJob", "PlaceJob"} <= kinds
    assert {one[4] for one in rows if one[1] == "PlaceJob"} == {"none", "idle"}
    lived_rows, lived_ends = await lived(trace, tmp_path)
    assert lived_rows == rows
    assert lived_ends == ends
