"""A house in memory for those who write doors: it answers with the prompt's own words."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.job import JobSpec
from meted.domain.request import ChatPrompt, EmbeddingPrompt, FinishReason, Outcome, TextPrompt
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    Tokens,
)
from meted.live.doors import (
    Begun,
    Delta,
    DeploymentGauges,
    Ended,
    Finish,
    HouseError,
    RequestEvent,
    ServedModel,
    Submission,
    Usage,
    Vectors,
)
from meted.testing.fake_levers import FakeLevers
from meted.testing.fake_money import (
    ADMIN_KEY,
    OTHER_KEY,
    REVOKED_KEY,
    TENANT_KEY,
    FakeMoney,
    Hold,
)
from meted.testing.memory_store import CREATED

__all__ = [
    "ADMIN_KEY",
    "OTHER_KEY",
    "REVOKED_KEY",
    "TENANT_KEY",
    "FakeDoors",
    "FakeTicket",
    "Manners",
]

NANOS_PER_TOKEN = 1_000_000
NANO_USD_PER_TOKEN = 7
PRICE_PER_TOKEN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the house behaves. word_s: pause before each word; 0 has all events ready at once.

    fails_after: words after which every request fails; None never. refuses_with: 402 or 429, the
    status with which a budget without money refuses every request; None never.
    """

    word_s: float = 0.0
    fails_after: int | None = None
    refuses_with: int | None = None
    max_queue: int = 1_000_000
    context_tokens: int = 8_192
    dimensions: int = 4
    answer_tokens: int | None = None
    ready: bool = True


class FakeTicket:
    """A submitted request of the fake house."""

    def __init__(self, submission: Submission, hold: Hold | None) -> None:
        self.submission = submission
        self.hold = hold
        self.cancelled = asyncio.Event()
        self._events: deque[RequestEvent | HouseError] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: RequestEvent | HouseError) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> RequestEvent:
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        event = self._events.popleft()
        if isinstance(event, HouseError):
            raise event
        return event

    def next_nowait(self) -> RequestEvent | None:
        if not self._events or isinstance(self._events[0], HouseError):
            return None
        event = self._events.popleft()
        assert not isinstance(event, HouseError)
        return event

    def cancel(self) -> None:
        self.cancelled.set()


class FakeDoors(FakeLevers, FakeMoney):
    """`Doors` without processes or disk. Two deployments: `words` and `vectors`."""

    def __init__(self, manners: Manners | None = None) -> None:
        super().__init__()
        self.manners = manners or Manners()
        self.tickets: list[FakeTicket] = []
        self.ended: list[Ended] = []
        self.specs: list[JobSpec] = []
        self.settings: dict[str, EngineSettings] = {}
        self.stopping = False
        self.status_body: dict[str, Any] = {"version": "fake", "deployments": [], "jobs": []}
        self.timeline_body: dict[str, Any] = {"interval_s": 1.0, "points": [], "totals": {}}
        self.predictions_body: list[dict[str, Any]] = []
        self.running = 0
        self._keep_tickets = True
        self._finishes: list[Finish] = []
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._deployed: dict[str, tuple[str, Task]] = {
            "words": ("words-1m", Task.GENERATE),
            "vectors": ("vectors-1m", Task.EMBED),
        }

    def forget_tickets(self) -> None:
        """Keep no record of requests, for long benchmarks."""
        self._keep_tickets = False

    def submit(self, submission: Submission) -> FakeTicket:
        known = self._deployed.get(submission.deployment)
        if known is None:
            raise HouseError(
                f"the model '{submission.deployment}' does not exist",
                status=404,
                type="invalid_request_error",
                param="model",
                code="model_not_found",
            )
        embeds = isinstance(submission.prompt, EmbeddingPrompt)
        if embeds != (known[1] is Task.EMBED):
            raise HouseError(
                f"'{submission.deployment}' is for the task '{known[1]}'",
                status=400,
                type="invalid_request_error",
                param="model",
            )
        if self.running >= self.manners.max_queue:
            raise HouseError(
                f"the queue of '{submission.deployment}' is full ({self.manners.max_queue})",
                status=503,
                type="server_error",
                code="queue_full",
                retry_after_s=2,
            )
        if self.manners.refuses_with is not None:
            raise self.broke(submission.payer, gone=self.manners.refuses_with == 402)
        hold = None
        if self.money.budgets():
            words = prompt_tokens(submission)
            hold = self.hold(
                submission.payer,
                submission.deployment,
                least=_price(words + (0 if embeds else 1)),
                most=_price(words + len(self._answer(submission)[0])),
            )
        ticket = FakeTicket(submission, hold)
        if self._keep_tickets:
            self.tickets.append(ticket)
        self.running += 1
        if self.manners.word_s == 0:
            self._at_once(ticket)
        else:
            task = asyncio.create_task(self._word_by_word(ticket))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return ticket

    def _at_once(self, ticket: FakeTicket) -> None:
        for event in self._events(ticket):
            self._deliver(ticket, event)

    async def _word_by_word(self, ticket: FakeTicket) -> None:
        said = 0
        for event in self._events(ticket):
            if isinstance(event, Delta):
                try:
                    await asyncio.wait_for(ticket.cancelled.wait(), self.manners.word_s)
                except TimeoutError:
                    said = event.completion_tokens
                else:
                    reason = FinishReason.CANCELLED
                    event = self._end(ticket.submission, said, Outcome.CANCELLED, reason, "gone")
            self._deliver(ticket, event)
            if isinstance(event, Ended):
                return

    def _events(self, ticket: FakeTicket) -> list[RequestEvent | HouseError]:
        submission = ticket.submission
        prompt = prompt_tokens(submission)
        if prompt > self.manners.context_tokens:
            return [
                HouseError(
                    f"the prompt has {prompt} tokens, the context {self.manners.context_tokens}",
                    status=400,
                    type="invalid_request_error",
                    param="messages",
                    code="context_length_exceeded",
                )
            ]
        begun = Begun(prompt_tokens=Tokens(prompt))
        if isinstance(submission.prompt, EmbeddingPrompt):
            vectors = tuple(self._vector(text) for text in submission.prompt.texts)
            ended = self._end(submission, 0, Outcome.DONE, FinishReason.STOP)
            return [begun, Vectors(embeddings=vectors), ended]
        words, reason = self._answer(submission)
        outcome, error, stopped = Outcome.DONE, None, None
        if ticket.hold is not None and (paid := ticket.hold.held // PRICE_PER_TOKEN - prompt) < len(
            words
        ):
            words, reason, stopped = words[:paid], FinishReason.LENGTH, ticket.hold.tightest
        if self.manners.fails_after is not None:
            words = words[: self.manners.fails_after]
            outcome, reason, error = Outcome.FAILED, None, "replica 'words-0' died"
            stopped = None
        deltas = [
            Delta(text=f" {word}" if index else word, completion_tokens=Tokens(index + 1))
            for index, word in enumerate(words)
        ]
        return [begun, *deltas, self._end(submission, len(words), outcome, reason, error, stopped)]

    def _answer(self, submission: Submission) -> tuple[list[str], FinishReason | None]:
        """The words of the last turn or the prompt, up to max_tokens or a stop word."""
        match submission.prompt:
            case ChatPrompt(messages=messages):
                words = messages[-1].content.split()
            case TextPrompt(text=text):
                words = text.split()
            case EmbeddingPrompt():
                words = []
        if self.manners.answer_tokens is not None:
            words = (words * self.manners.answer_tokens)[: self.manners.answer_tokens]
        for index, word in enumerate(words):
            if word in submission.sampling.stop:
                return words[:index], FinishReason.STOP
        limit = submission.sampling.max_tokens
        if limit is not None and len(words) > limit:
            return words[:limit], FinishReason.LENGTH
        return words, FinishReason.STOP

    def _vector(self, text: str) -> tuple[float, ...]:
        return tuple(len(text) / 2**place for place in range(self.manners.dimensions))

    def _end(
        self,
        submission: Submission,
        words: int,
        outcome: Outcome,
        reason: FinishReason | None,
        error: str | None = None,
        stopped: BudgetName | None = None,
    ) -> Ended:
        prompt = prompt_tokens(submission)
        usage = Usage(
            prompt_tokens=Tokens(prompt),
            cached_tokens=Tokens(prompt // 2),
            completion_tokens=Tokens(words),
            device_nanos=DeviceNanos((prompt + words) * NANOS_PER_TOKEN),
            cost=NanoUSD((prompt + words) * NANO_USD_PER_TOKEN),
            price=_price(prompt + words),
        )
        return Ended(
            outcome=outcome, finish_reason=reason, usage=usage, error=error, stopped=stopped
        )

    def _deliver(self, ticket: FakeTicket, event: RequestEvent | HouseError) -> None:
        ticket.put(event)
        if isinstance(event, HouseError):
            self.running -= 1
            self.settle_hold(ticket.hold, NanoUSD(0))
        elif isinstance(event, Ended):
            self.running -= 1
            self.settle_hold(ticket.hold, event.usage.price)
            self._book(ticket.submission, event)

    def _book(self, submission: Submission, ended: Ended) -> None:
        name = submission.deployment
        self._tokens[name, "prompt"] += ended.usage.prompt_tokens
        self._tokens[name, "cached"] += ended.usage.cached_tokens
        self._tokens[name, "completion"] += ended.usage.completion_tokens
        gaps = max(0, ended.usage.completion_tokens - 1)
        self._finishes.append(
            Finish(
                deployment=name,
                outcome=ended.outcome,
                finish_reason=ended.finish_reason,
                queue_us=Micros(100),
                ttft_us=Micros(20_000),
                e2e_us=Micros(50_000),
                inter_token_us=(Micros(10_000),) * gaps,
            )
        )
        if self._keep_tickets:
            self.ended.append(ended)
            self.charge(submission, self._deployed[name][0], ended.usage)

    def models(self) -> Sequence[ServedModel]:
        return [
            ServedModel(
                name=DeploymentName(name),
                task=task,
                checkpoint=checkpoint,
                base=None,
                context_tokens=Tokens(self.manners.context_tokens),
                created=CREATED,
                ready_replicas=1,
            )
            for name, (checkpoint, task) in self._deployed.items()
        ]

    def gauges(self) -> Sequence[DeploymentGauges]:
        return [
            DeploymentGauges(
                name=DeploymentName(name),
                running=self.running,
                waiting=0,
                cache_usage=0.25,
                prompt_tokens=Tokens(self._tokens[name, "prompt"]),
                cached_tokens=Tokens(self._tokens[name, "cached"]),
                completion_tokens=Tokens(self._tokens[name, "completion"]),
            )
            for name in self._deployed
        ]

    def take_finishes(self) -> Sequence[Finish]:
        finishes, self._finishes = self._finishes, []
        return finishes

    def usage_totals(self) -> dict[str, tuple[DeviceNanos, NanoUSD]]:
        tokens = sum(n for (_, kind), n in self._tokens.items() if kind != "cached")
        used = DeviceNanos(tokens * NANOS_PER_TOKEN), NanoUSD(tokens * NANO_USD_PER_TOKEN)
        return {"request": used, "idle": (DeviceNanos(0), NanoUSD(0))}

    def ready(self) -> bool:
        return self.manners.ready and not self.stopping

    def status(self) -> dict[str, Any]:
        return self.status_body

    async def predictions(self) -> list[dict[str, Any]]:
        return self.predictions_body

    def timeline(self) -> dict[str, Any]:
        return self.timeline_body

    async def checkpoints(self) -> list[dict[str, Any]]:
        return [{"name": name, "task": task} for name, task in self._deployed.values()]

    async def deploy(
        self,
        *,
        name: str,
        checkpoint: str,
        path: str | None,
        replicas: int,
        settings: EngineSettings,
    ) -> dict[str, Any]:
        self._deployed[name] = (checkpoint, Task.GENERATE)
        self.settings[name] = settings
        return {"name": name, "checkpoint": checkpoint, "path": path, "replicas": replicas}

    async def undeploy(self, name: str) -> dict[str, Any]:
        if name not in self._deployed:
            raise _no_such("deployment", name)
        del self._deployed[name]
        return {"name": name}

    async def submit_job(self, spec: JobSpec) -> dict[str, Any]:
        if any(known.name == spec.name for known in self.specs):
            raise HouseError(
                f"a job '{spec.name}' exists; choose another name",
                status=409,
                type="invalid_request_error",
                param="name",
                code="job_exists",
            )
        self.specs.append(spec)
        return {"name": spec.name, "status": "queued"}

    def jobs(self) -> list[dict[str, Any]]:
        return [asdict(spec) for spec in self.specs]

    def job(self, name: JobName) -> dict[str, Any]:
        for spec in self.specs:
            if spec.name == name:
                return asdict(spec)
        raise _no_such("job", name)

    async def control_job(self, name: JobName, verb: str) -> dict[str, Any]:
        return {**self.job(name), "verb": verb}

    def request_shutdown(self) -> None:
        self.stopping = True


def prompt_tokens(submission: Submission) -> int:
    """Words of a prompt, which are the fake's tokens."""
    match submission.prompt:
        case ChatPrompt(messages=messages):
            return sum(len(message.content.split()) for message in messages)
        case TextPrompt(text=text):
            return len(text.split())
        case EmbeddingPrompt(texts=texts):
            return sum(len(text.split()) for text in texts)


def _price(tokens: int) -> NanoUSD:
    return NanoUSD(tokens * PRICE_PER_TOKEN)


def _no_such(kind: str, name: str) -> HouseError:
    return HouseError(
        f"there is no {kind} '{name}'",
        status=404,
        type="invalid_request_error",
        param="name",
        code=f"{kind}_not_found",
    )
