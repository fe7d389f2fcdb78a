"""The real house on a played clock, with played processes that take the simulator's times."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from two_worlds import (
    CHAT,
    HORIZON,
    LOAD,
    MAX_BATCH,
    POOL,
    RESTART,
    SECOND,
    STEPS_PER_SECOND,
    Case,
    Log,
    Row,
    Trace,
    row,
)

from meted.control.effects import Effect
from meted.control.events import DemandSeen, Deployed, Event, JobSubmitted
from meted.domain.allocation import DeploymentDemand
from meted.domain.job import JobProgress, TrainingSpec
from meted.domain.request import ChatPrompt, FinishReason, Message, Sampling
from meted.domain.tenancy import Payer
from meted.domain.units import DeviceNanos, JobName, KeyId, Micros, RequestId, TenantName
from meted.live.clock import Clock
from meted.live.doors import Submission
from meted.live.host import OnEnd, OnMessage, Urgency, WorkerEnd, WorkerSpec
from meted.live.house import House, HouseSettings
from meted.live.live_job import JobTotals
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
from meted.predict.batching import Arrival, Batcher, Served
from meted.predict.replica import ReplicaModel
from meted.sim.observing import DEVIATION
from meted.sim.scenario import SimRequest


class PlayedClock(Clock):
    """A clock that stands where the stage puts it."""

    def __init__(self) -> None:
        self.at = 0
        super().__init__()

    def now(self) -> Micros:
        return Micros(self.at)


class Stage:
    """What is to happen when, and the host whose workers are played."""

    def __init__(self, model: ReplicaModel) -> None:
        self.model = model
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
        self.batcher = Batcher(replica=self.stage.model)
        self.inside: dict[int, tuple[str, Served]] = {}
        self.done: dict[int, tuple[int, int]] = {}
        self.stepping = False
        self.later(LOAD, lambda: self.tell(Ready("generate", 8_192, MAX_BATCH, self.cpu)))

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
    stage = Stage(case.model)
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
        watch.believe(case.cost, deviation=DEVIATION, threads=len(POOL.devices))
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
