"""What the doors (gateway, page, CLI through the gateway) may ask of the house.

The house implements `Doors`; the gateway knows nothing else of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meted.domain.deployment import Task
from meted.domain.job import TrainingSpec
from meted.domain.request import FinishReason, Outcome, Prompt, Sampling
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    RequestId,
    TenantName,
    Tokens,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request at the door, its tenant known."""

    request_id: RequestId
    tenant: TenantName
    key_id: str
    deployment: DeploymentName
    prompt: Prompt
    sampling: Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The engine took the request: from here on a failure is no longer retried unseen."""

    prompt_tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """New text, and how many tokens were generated in all so far."""

    text: str
    completion_tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """One embedding for each text of the prompt."""

    embeddings: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a request used: tokens, device time and its cost."""

    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    device_nanos: DeviceNanos
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event of every request. error is set unless outcome is done."""

    outcome: Outcome
    finish_reason: FinishReason | None
    usage: Usage
    error: str | None = None


RequestEvent = Begun | Delta | Vectors | Ended


class HouseError(Exception):
    """The house refuses or cannot: an HTTP status, OpenAI's error fields, a sentence."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class Ticket(Protocol):
    """A submitted request: its events in order, `Ended` last."""

    async def next(self) -> RequestEvent:
        """The next event. Raises HouseError (400) if the engine rejects the request, with the field
        named, before any other event."""
        ...

    def next_nowait(self) -> RequestEvent | None:
        """The next event if it has come already; lets the door send several in one write."""
        ...

    def cancel(self) -> None:
        """The client has gone: stop within a step. `Ended` still follows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A deployment as clients see it."""

    name: DeploymentName
    task: Task
    checkpoint: str
    base: str | None
    context_tokens: Tokens
    created: int
    ready_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentGauges:
    """Counters for /metrics, all since the house began except the two gauges and cache_usage."""

    name: DeploymentName
    running: int
    waiting: int
    cache_usage: float
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A request's times for the histograms of /metrics; None where a phase was not reached."""

    deployment: DeploymentName
    outcome: Outcome
    finish_reason: FinishReason | None
    queue_us: Micros | None
    ttft_us: Micros | None
    e2e_us: Micros
    inter_token_us: tuple[Micros, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A credential's public part."""

    id: str
    tenant: TenantName
    admin: bool
    name: str
    prefix: str
    created: int
    revoked: bool = False


class Doors(Protocol):
    """The house as seen from its doors. All methods run on the house's event loop."""

    def authenticate(self, bearer: str) -> Key | None:
        """The key behind a bearer token, or None if unknown or revoked."""
        ...

    def submit(self, submission: Submission) -> Ticket:
        """Take a request in. Raises HouseError: 404 unknown deployment, 400 wrong task, 503 queue
        full (retry_after_s set) or shutting down."""
        ...

    def models(self) -> Sequence[ServedModel]: ...

    def gauges(self) -> Sequence[DeploymentGauges]: ...

    def take_finishes(self) -> Sequence[Finish]:
        """Requests ended since the last call."""
        ...

    def usage_totals(self) -> dict[str, tuple[DeviceNanos, NanoUSD]]:
        """Device time and cost by kind since the house began, for /metrics."""
        ...

    def ready(self) -> bool:
        """Whether the house takes requests."""
        ...

    def status(self) -> dict[str, Any]:
        """The house in one JSON-ready object: pool, deployments, replicas, jobs, decisions."""
        ...

    def timeline(self) -> dict[str, Any]:
        """The last minutes for the page: JSON-ready series."""
        ...

    async def checkpoints(self) -> list[dict[str, Any]]:
        """Every checkpoint on disk, JSON-ready."""
        ...

    async def deploy(
        self, *, name: str, checkpoint: str, path: str | None, replicas: int
    ) -> dict[str, Any]:
        """Deploy a checkpoint by name, importing it from `path` first if given.

        Raises HouseError 404 (no such checkpoint or file), 400 (unsupported, too little memory)."""
        ...

    async def undeploy(self, name: str) -> dict[str, Any]: ...

    async def train(self, spec: TrainingSpec) -> dict[str, Any]:
        """Queue a job. Raises HouseError 400 or 409 (the name is taken)."""
        ...

    def jobs(self) -> list[dict[str, Any]]: ...

    def job(self, name: JobName) -> dict[str, Any]: ...

    async def control_job(self, name: JobName, verb: str) -> dict[str, Any]:
        """verb: pause, resume or cancel."""
        ...

    def request_shutdown(self) -> None: ...
