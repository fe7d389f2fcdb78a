"""A request on its way through the house, and the events that its client is owed."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meted.domain.budget import Window
from meted.domain.deployment import Deployment
from meted.domain.line import Account
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    Micros,
    NanoUSD,
    ReplicaId,
    TransferId,
)
from meted.live.doors import Ended, HouseError, RequestEvent, Submission
from meted.live.pricing import Tariff


class LiveTicket:
    """The client's end: events in order, `Ended` last. One reader."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._events: deque[RequestEvent | HouseError] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._cancel = cancel
        self._over = False

    def put(self, event: RequestEvent | HouseError) -> None:
        """The house has news for the client."""
        if self._over:
            return
        self._over = isinstance(event, Ended | HouseError)
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> RequestEvent:
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._take()

    def next_nowait(self) -> RequestEvent | None:
        if not self._events or isinstance(self._events[0], HouseError):
            return None
        return self._take()

    def cancel(self) -> None:
        self._cancel()

    def _take(self) -> RequestEvent:
        event = self._events.popleft()
        if isinstance(event, HouseError):
            raise event
        return event


@dataclass(slots=True, kw_only=True, eq=False)
class LiveRequest:
    """What the house knows of a request until it has ended. Times are monotonic micros.

    windows, transfer, reserved: the budgets that cover it, and what is set aside in them.
    parked: since when it waits for money. stopped: the budget whose money ended it early.
    rejected: an engine refused it. moved_from: the version of its deployment that could not serve.
    """

    submission: Submission
    account: Account
    arrived: Micros
    tariff: Tariff | None = None
    windows: tuple[Window, ...] = ()
    transfer: TransferId | None = None
    reserved: NanoUSD = NanoUSD(0)
    prompt_tokens_most: int = 0
    dispatched_tokens: int = 0
    parked: Micros | None = None
    stopped: BudgetName | None = None
    ticket: LiveTicket | None = None
    replica: ReplicaId | None = None
    attempts: int = 0
    dispatched: Micros | None = None
    first_token: Micros | None = None
    last_token: Micros | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    gaps: list[Micros] = field(default_factory=list[Micros])
    cancelled: bool = False
    ended: bool = False
    rejected: bool = False
    moved_from: DeploymentName | None = None

    def move(self, deployment: Deployment) -> None:
        """Begin anew as a request for this version of its deployment. Its money stays set aside."""
        self.moved_from = self.submission.deployment
        self.submission = replace(self.submission, deployment=deployment.name)
        self.account = replace(
            self.account, deployment=deployment.name, model=deployment.checkpoint
        )
        self.replica = None
        self.attempts = 0
        self.dispatched = None
