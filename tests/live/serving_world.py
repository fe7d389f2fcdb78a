"""The hot path with lines for replicas: a test plays the replicas' part."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from meted.domain.budget import Budget, Period, Window
from meted.domain.line import Account, Interval, Kind
from meted.domain.request import ChatPrompt, Message, Sampling
from meted.domain.tenancy import Payer
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    DeviceNanos,
    KeyId,
    Micros,
    NanoUSD,
    ReplicaId,
    RequestId,
    TenantName,
    TransferId,
)
from meted.ledger.rates import RateBook, Rates, RateVersion
from meted.live.budget_desk import Alert, BudgetDesk
from meted.live.clock import Clock
from meted.live.doors import Ended, RequestEvent, Submission
from meted.live.funding import Funding
from meted.live.host import Urgency
from meted.live.metering import Metering
from meted.live.pricing import Pricing
from meted.live.serving import Serving
from meted.live.stores import open_store
from meted.live.tickets import LiveTicket
from meted.live.wire import Frame, Output, Ready, Share, Stepped
from meted.testing.builders import make_deployment, make_pool

NAME = DeploymentName("m")
WINDOW = Window(budget=BudgetName("b"), starts=Micros(0), ends=None)


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
        pool = make_pool()
        self.metering = Metering(
            store=self.store,
            pool=pool,
            clock=clock,
            session="s",
            interval_s=1,
            flush_s=0.02,
        )
        self.drained: list[str] = []
        self.traffic: list[bool] = []
        self.alerts: list[Alert] = []
        self.desk = BudgetDesk(
            store=self.store,
            in_writer=self.metering.in_writer,
            spawn=self.spawn,
            wall=clock.wall,
            on_money=lambda: self.serving.money(),
            on_alert=self.alerts.append,
        )
        self.metering.on_written = self.desk.written
        self.pricing = Pricing(RateBook())
        self.serving = Serving(
            clock=clock,
            metering=self.metering,
            funding=Funding(
                clock=clock,
                desk=self.desk,
                pricing=self.pricing,
                price=lambda: self.metering.meter.price,
            ),
            on_ready=lambda replica: None,
            on_drained=self.drained.append,
            on_traffic=self.traffic.append,
        )
        self.serving.add_deployment(make_deployment(max_queue=2))
        self.lines: dict[str, Line] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def replica(self, name: str = "m-1") -> Line:
        line = self.lines[name] = Line()
        self.serving.add_replica(ReplicaId(name), NAME, line)
        self.metering.worker_started(name, Account(kind=Kind.LOADING), line.cpu_nanos)
        self.hear(name, Ready("generate", 100, 4, 0))
        return line

    def hear(self, name: str, message: Frame) -> None:
        self.serving.receive(ReplicaId(name), NAME, message)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def budget(self, limit: int, *, hard: bool = True, **scope: Any) -> None:
        """From now on there is this budget, and the desk knows how it stands."""
        made = Budget(
            name=BudgetName("b"),
            tenant=TenantName("acme"),
            period=Period.TOTAL,
            limit=NanoUSD(limit),
            hard=hard,
            **scope,
        )
        self.store.save_budget(made)
        self.desk.load(self.store.budgets())
        self.desk.reserve(TransferId("first look"), (WINDOW,), NanoUSD(0))
        await asyncio.gather(*self.tasks)

    def rates(self, rates: Rates) -> None:
        version = RateVersion(effective=Micros(0), recorded=Micros(0), rates=rates)
        self.pricing.load(RateBook(versions=(version,)))

    def ask(
        self, number: int, *, max_tokens: int | None = None, tenant: str = "acme"
    ) -> LiveTicket:
        return self.serving.submit(
            Submission(
                request_id=RequestId(f"r{number}"),
                payer=Payer(tenant=TenantName(tenant), key=KeyId("k")),
                deployment=NAME,
                prompt=ChatPrompt(messages=(Message(role="user", content="hi"),)),
                sampling=Sampling(max_tokens=max_tokens),
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


async def events(ticket: LiveTicket) -> list[RequestEvent]:
    """All events up to the end, which comes once the books are written."""
    found: list[RequestEvent] = []
    while not found or not isinstance(found[-1], Ended):
        found.append(await ticket.next())
    return found
