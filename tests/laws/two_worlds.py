"""One trace for two worlds: what is asked in both, what is compared, and the simulated one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
from meted.control.events import DemandSeen, Event
from meted.domain.allocation import DeploymentDemand, JobOption, ReplicaOption
from meted.domain.deployment import Deployment, Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.units import DeploymentName, JobName, Micros
from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
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
MAX_BATCH = 4


def deployment(*, least: int, ttft_ms: int) -> Deployment:
    return Deployment(
        name=CHAT,
        checkpoint="chat",
        task=Task.GENERATE,
        replicas=1,
        slo=make_slo(ttft_ms=ttft_ms, tpot_ms=200),
        max_batch=MAX_BATCH,
        max_queue=1_000,
        settings=EngineSettings(engine="meted.testing.fake_engine:FakeEngine"),
        least=least,
        most=2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A policy for a deployment, and the ways of harvesting that the trace makes it use.

    decode: micros of a step for each request that decodes in it. near: relative difference that
    what is fitted may have between the worlds.
    """

    policy: DemandPolicy | PerformancePolicy
    harvests: frozenset[str]
    least: int = 0
    ttft_ms: int = 2_000
    drains_at_work: bool = False
    """Whether a replica that is to leave still has requests at the next decision."""

    decode: int = 0
    near: float = 5e-4

    @property
    def cost(self) -> StepCost:
        """Whole microseconds for each unit: no world rounds."""
        return StepCost(fixed=10_000, prefill=100, decode=self.decode, context=1)

    @property
    def model(self) -> ReplicaModel:
        return ReplicaModel(
            step=self.cost, kv_tokens=1_000_000, chunk_tokens=256, max_batch=MAX_BATCH
        )

    @property
    def deployment(self) -> Deployment:
        return deployment(least=self.least, ttft_ms=self.ttft_ms)


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
                    replicas={("cpu-core", 2): case.model},
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
