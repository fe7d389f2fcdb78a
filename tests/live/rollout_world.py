"""The real house on a played clock, with the processes of two versions of a deployment played."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from meted.control.events import Deployed
from meted.domain.deployment import Deployment, Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.request import ChatPrompt, FinishReason, Message, Sampling
from meted.domain.tenancy import Payer
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    KeyId,
    Micros,
    RequestId,
    TenantName,
)
from meted.live.clock import Clock
from meted.live.doors import Begun, Delta, Ended, HouseError, Submission, Ticket
from meted.live.host import OnEnd, OnMessage, Urgency, WorkerEnd, WorkerSpec
from meted.live.house import House, HouseSettings
from meted.live.house_doors import HouseDoors
from meted.live.lever_doors import RolloutWish
from meted.live.stores import open_store
from meted.live.wire import (
    Add,
    Admitted,
    Failed,
    Frame,
    Output,
    Ready,
    Rejected,
    Share,
    Stepped,
    Stop,
)
from meted.policy.allocation.demand import DemandPolicy
from meted.predict.estimate import exactly
from meted.testing.builders import make_pool, make_slo

SECOND = 1_000_000
CHAT = DeploymentName("chat")
POOL = make_pool(devices=2)
BLOCK_S = 10.0
ENGINE = "meted.testing.fake_engine:FakeEngine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a checkpoint's process behaves.

    factor: of its device time. noise: standard deviation of that, as a share. dies_after: this many
    requests kill it. rejects_over: prompts longer than this are refused.
    """

    factor: float = 1.0
    noise: float = 0.02
    latency_ms: int = 50
    load_ms: int = 1_000
    dies_after: int | None = None
    rejects_over: int | None = None
    fails_to_load: bool = False


class PlayedClock(Clock):
    """A clock that stands where the world puts it."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        super().__init__()
        self._origin = 1_700_000_000_000_000

    def now(self) -> Micros:
        return Micros(self.at)


class PlayedReplica:
    """A replica without a process: each request is answered in one step, after its latency."""

    pid = 0

    def __init__(
        self, world: "World", spec: WorkerSpec, manners: Manners, tell: OnMessage, on_end: OnEnd
    ) -> None:
        self._world, self._manners = world, manners
        self._tell, self._on_end = tell, on_end
        self._random = random.Random(spec.id)
        self._cpu, self._gone, self._served = 0, False, 0
        self._later(manners.load_ms, self._loaded)

    def _loaded(self) -> None:
        if self._manners.fails_to_load:
            self._tell(Failed("it does not fit in memory"))
            self._end("it does not fit in memory")
            return
        self._cpu += 5_000_000
        self._tell(Ready("generate", 8_192, 16, self._cpu))

    def send(self, frame: Frame) -> None:
        if isinstance(frame, Stop):
            self._later(0, lambda: self._end("it was stopped"))
        elif isinstance(frame, Add):
            assert frame.messages is not None
            prompt = len(frame.messages[0].content)
            limit = self._manners.rejects_over
            if limit is not None and prompt > limit:
                refused = Rejected(frame.request_id, "too long for me", "messages", None)
                self._later(1, lambda: self._tell(refused))
                return
            self._served += 1
            if self._served == self._manners.dies_after:
                self._later(1, lambda: self._step(frame, prompt, output=0))
                self._later(2, lambda: self._end("it was told to die"))
                return
            self._later(0, lambda: self._tell(Admitted(frame.request_id, prompt)))
            output = frame.sampling.max_tokens or 1
            self._later(self._manners.latency_ms, lambda: self._step(frame, prompt, output=output))

    def _step(self, frame: Add, prompt: int, *, output: int) -> None:
        """Compute the prompt, and all of the answer unless that is empty."""
        work = (prompt * 2_000 + output * 20_000) * self._manners.factor
        start = self._cpu
        self._cpu += round(work * (1 + self._random.gauss(0, self._manners.noise)))
        self._tell(
            Stepped(
                started_us=self._world.clock.at - self._manners.latency_ms * 1_000,
                duration_us=self._manners.latency_ms * 1_000,
                cpu_start_ns=start,
                cpu_end_ns=self._cpu,
                shares=(Share(frame.request_id, prompt, 0, output, prompt + output),),
                outputs=(
                    (Output(frame.request_id, text="x", finish_reason=FinishReason.LENGTH),)
                    if output
                    else ()
                ),
                cache_usage=0.0,
            )
        )

    def _later(self, milliseconds: int, action: Callable[[], object]) -> None:
        at = self._world.clock.at + milliseconds * 1_000
        self._world.schedule(at, lambda: None if self._gone else action())

    def _end(self, reason: str) -> None:
        self._gone = True
        self._on_end(WorkerEnd(cpu_nanos=DeviceNanos(self._cpu), reason=reason))

    def cpu_nanos(self) -> DeviceNanos:
        return DeviceNanos(self._cpu)

    def place(self, devices: Sequence[int], urgency: Urgency) -> None:
        pass

    def freeze(self) -> None:
        pass

    thaw = kill = freeze


@dataclass
class Heard:
    """What one client has heard: the end of its request, or a refusal."""

    at: int
    end: Ended | HouseError | None = None


@dataclass
class World:
    """One run of the house after the other, on the same books. manners: by checkpoint."""

    folder: Path
    manners: dict[str, Manners]
    clock: PlayedClock = field(default_factory=PlayedClock)
    heard: list[Heard] = field(default_factory=list[Heard])
    _queue: list[tuple[int, int, Callable[[], object]]] = field(default_factory=list)
    _made: int = 0
    _open: list[tuple[Heard, Ticket]] = field(default_factory=list)

    @property
    def books(self) -> Path:
        return self.folder / "books.sqlite"

    async def begin(self, *configured: Deployment) -> None:
        """Start a house as `House.start` does, without what runs by the machine's clock."""
        self.store = open_store(self.books, house="here")
        self.house = House(
            settings=HouseSettings(
                pool=POOL,
                policy_name="demand",
                policy=DemandPolicy(),
                books=self.books,
                checkpoints=self.folder / "checkpoints",
                jobs=self.folder,
                calibrations=self.folder,
                books_flush_s=0.01,
            ),
            store=self.store,
            key_store=self.store,
            host=self,
            clock=self.clock,
        )
        self.doors = HouseDoors(self.house)
        house = self.house
        house.metering_loop = house.spawn(house.metering.run())
        wanted = {one.name: one for one in (*self.store.deployments(), *configured)}
        for one in house.rollouts.remembered(wanted).values():
            house.happen(Deployed(now=self.clock.now(), deployment=one))
        house.rollouts.resume()
        await self.run(3)

    async def start(self, spec: WorkerSpec, on_message: OnMessage, on_end: OnEnd) -> PlayedReplica:
        """The host's part."""
        folder = spec.arguments[spec.arguments.index("--folder") + 1]
        return PlayedReplica(self, spec, self.manners[Path(folder).name], on_message, on_end)

    def schedule(self, at: int, action: Callable[[], object]) -> None:
        self._made += 1
        heappush(self._queue, (at, self._made, action))

    async def run(self, seconds: float, *, wait: bool = True) -> None:
        """Let time pass; the rollouts look each tenth of a second, control each second.

        wait: until what happened is in the store; a house that is killed does not.
        """
        begin, until = self.clock.at, self.clock.at + round(seconds * SECOND)
        for tenth in range(1, round(seconds * 10) + 1):
            self.schedule(begin + tenth * SECOND // 10, self.house.rollouts.tick)
            if tenth % 10 == 0:
                self.schedule(begin + tenth * SECOND // 10, self.house.decide)
        while self._queue and self._queue[0][0] <= until:
            self.clock.at, _, action = heappop(self._queue)
            action()
            for _ in range(4):
                await asyncio.sleep(0)
        self.clock.at = until
        if wait:
            await self._written()
        assert not self.house.failed

    async def traffic(
        self, seconds: float, *, per_second: float = 4.0, seed: int = 1, wait: bool = True
    ) -> None:
        """Clients ask at random moments, for answers of random lengths."""
        chance, at = random.Random(seed), float(self.clock.at)
        while (at := at + chance.expovariate(per_second) * SECOND) < self.clock.at + (
            seconds * SECOND
        ):
            prompt, output = chance.randint(100, 2_000), chance.randint(10, 100)
            self.schedule(round(at), lambda p=prompt, o=output: self.ask(p, o))
        await self.run(seconds, wait=wait)

    def ask(self, prompt: int = 500, output: int = 50, *, deployment: str = "chat") -> Heard:
        """One client."""
        heard = Heard(at=self.clock.at)
        self.heard.append(heard)
        submission = Submission(
            request_id=RequestId(f"r{len(self.heard)}"),
            payer=Payer(tenant=TenantName("acme"), key=KeyId("k")),
            deployment=DeploymentName(deployment),
            prompt=ChatPrompt(messages=(Message(role="user", content="a" * prompt),)),
            sampling=Sampling(max_tokens=output),
        )
        try:
            self._open.append((heard, self.doors.submit(submission)))
        except HouseError as error:
            heard.end = error
        return heard

    def listen(self) -> None:
        """Read what clients were sent."""
        for heard, ticket in self._open:
            while heard.end is None:
                queued: Any = ticket
                if not queued._events:
                    break
                event = queued._events.popleft()
                if isinstance(event, Ended | HouseError):
                    heard.end = event
                assert isinstance(event, Begun | Delta | Ended | HouseError)
        self._open = [(heard, ticket) for heard, ticket in self._open if heard.end is None]

    def errors(self) -> list[str]:
        """What clients saw that was no answer."""
        self.listen()
        ends = [heard.end for heard in self.heard]
        return [
            str(end if isinstance(end, HouseError) else end.error)
            for end in ends
            if isinstance(end, HouseError) or (end is not None and end.error is not None)
        ]

    async def stop(self) -> None:
        """End the house in order."""
        await self._written()
        await self.house.metering.finish()
        await self._abandon()

    async def die(self) -> None:
        """The house is killed: nothing more is written, its processes are gone."""
        self.house._memory._calls.clear()
        self._queue.clear()
        self._open.clear()
        await self._abandon()

    async def _abandon(self) -> None:
        tasks = list(self.house._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        # What its thread writes now is written whole, as a transaction of a killed house is or not.
        self.house.metering._writer.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    async def _written(self) -> None:
        """Until what happened is in the store."""
        async with asyncio.timeout(20):
            while self.house._memory._calls:
                await asyncio.sleep(0.002)
        await self.house.metering.flush(close=True)


def deployment(name: str = "chat", checkpoint: str = "big", *, max_queue: int = 64) -> Deployment:
    return Deployment(
        name=DeploymentName(name),
        checkpoint=checkpoint,
        task=Task.GENERATE,
        replicas=1,
        slo=make_slo(ttft_ms=1_000, tpot_ms=200),
        max_batch=8,
        max_queue=max_queue,
        settings=EngineSettings(engine=ENGINE),
    )


def wish(checkpoint: str = "small", **changes: Any) -> RolloutWish:
    return RolloutWish(
        **{
            "name": CHAT,
            "checkpoint": checkpoint,
            "predicted": exactly(0.3),
            "block_s": BLOCK_S,
            "washout_s": 1.0,
            "seed": 7,
            "most_blocks": 24,
            "quality_unknown": True,
            **changes,
        }
    )
