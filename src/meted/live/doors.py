"""What the doors (gateway, page, CLI through the gateway) may ask of the house.

The house implements `Doors`; the gateway knows nothing else of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meted.domain.budget import Budget
from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.job import JobSpec
from meted.domain.request import FinishReason, Outcome, Prompt, Sampling
from meted.domain.tenancy import DEFAULT_PROJECT, Payer
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
    Tokens,
)
from meted.ledger.price_book import PriceVersion
from meted.ledger.rates import RateVersion
from meted.live.lever_doors import LeverDoors
from meted.policy.rate_limit import NO_LIMITS, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request at the door, its tenant known."""

    request_id: RequestId
    payer: Payer
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
    """What a request used: tokens, device time, its cost to us, the price its tenant is charged."""

    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    device_nanos: DeviceNanos
    cost: NanoUSD
    price: NanoUSD = NanoUSD(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last event of every request. error is set unless outcome is done.

    stopped: the budget whose money ended generation early, with finish_reason length.
    """

    outcome: Outcome
    finish_reason: FinishReason | None
    usage: Usage
    error: str | None = None
    stopped: BudgetName | None = None


RequestEvent = Begun | Delta | Vectors | Ended


class HouseError(Exception):
    """The house refuses or cannot: an HTTP status, OpenAI's error fields, a sentence.

    details: further members of the error object, for programs; headers: to send with it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.details = dict(details or {})
        self.headers = dict(headers or {})


class Ticket(Protocol):
    """A submitted request: its events in order, `Ended` last."""

    async def next(self) -> RequestEvent:
        """The next event. Raises HouseError before any other event if the engine rejects the
        request (400, with the field named) or no budget has the money for it (402, 429)."""
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
    """Counters for /metrics, all since the house began except the two gauges and cache_usage.

    drift_alarms: how often its steps were no longer as predicted. drift_suspicion: how near the
    next alarm is, 0 to 1.
    """

    name: DeploymentName
    running: int
    waiting: int
    cache_usage: float
    prompt_tokens: Tokens
    cached_tokens: Tokens
    completion_tokens: Tokens
    drift_alarms: int = 0
    drift_suspicion: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGauge:
    """A budget's current window for /metrics. alerts: thresholds crossed since the house began."""

    name: BudgetName
    limit: NanoUSD
    spent: NanoUSD
    reserved: NanoUSD
    refusals: int
    alerts: int


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
    """A credential's public part. An admin may do all; a tenant sees only what is its own."""

    id: KeyId
    tenant: TenantName
    project: ProjectName = DEFAULT_PROJECT
    admin: bool
    name: str
    prefix: str
    created: int
    revoked: bool = False
    limits: Limits = NO_LIMITS

    @property
    def payer(self) -> Payer:
        return Payer(tenant=self.tenant, project=self.project, key=self.id)


class Doors(LeverDoors, Protocol):
    """The house as seen from its doors. All methods run on the house's event loop."""

    def authenticate(self, bearer: str) -> Key | None:
        """The key behind a bearer token, or None if unknown or revoked."""
        ...

    def submit(self, submission: Submission) -> Ticket:
        """Take a request in. Raises HouseError: 404 unknown deployment, 400 wrong task, 402 no
        money left, 503 queue full (retry_after_s set), store down or shutting down."""
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

    async def predictions(self) -> list[dict[str, Any]]:
        """Prediction beside measurement for each deployment, JSON-ready."""
        ...

    def timeline(self) -> dict[str, Any]:
        """The last minutes for the page: JSON-ready series."""
        ...

    async def checkpoints(self) -> list[dict[str, Any]]:
        """Every checkpoint on disk, JSON-ready."""
        ...

    async def deploy(
        self,
        *,
        name: str,
        checkpoint: str,
        path: str | None,
        replicas: int,
        settings: EngineSettings,
    ) -> dict[str, Any]:
        """Deploy a checkpoint by name, importing it from `path` first if given.

        Raises HouseError 404 (no such checkpoint or file), 400 (unsupported, too little memory,
        settings that cannot be)."""
        ...

    async def undeploy(self, name: str) -> dict[str, Any]: ...

    async def submit_job(self, spec: JobSpec) -> dict[str, Any]:
        """Queue a job. Raises HouseError 400 or 409 (the name is taken)."""
        ...

    def jobs(self) -> list[dict[str, Any]]: ...

    def job(self, name: JobName) -> dict[str, Any]: ...

    async def control_job(self, name: JobName, verb: str) -> dict[str, Any]:
        """verb: pause, resume or cancel."""
        ...

    def request_shutdown(self) -> None: ...

    # Money and credentials. Each change is entered in the audit log with the key that made it.

    async def bill(
        self,
        *,
        by: Sequence[str],
        from_us: Micros | None,
        to_us: Micros | None,
        tenant: TenantName | None,
    ) -> dict[str, Any]:
        """Usage, cost and price from the books, JSON-ready; only of `tenant` if it is given.

        Raises HouseError 400 for an unknown dimension."""
        ...

    async def budgets(self, tenant: TenantName | None) -> list[dict[str, Any]]:
        """Budgets and how they stand, JSON-ready; only those of `tenant` if it is given."""
        ...

    async def save_budget(self, budget: Budget, *, actor: Key) -> dict[str, Any]:
        """Make or change a budget. Raises HouseError 409 if its scope or period would change."""
        ...

    async def remove_budget(self, name: BudgetName, *, actor: Key) -> dict[str, Any]: ...

    async def keys(self, tenant: TenantName | None) -> list[dict[str, Any]]: ...

    async def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits,
        actor: Key,
    ) -> dict[str, Any]:
        """The key's public part and `secret`, shown only now."""
        ...

    async def rotate_key(self, key_id: KeyId, *, actor: Key) -> dict[str, Any]:
        """A new secret; the old one is refused from now on. Raises HouseError 404."""
        ...

    async def revoke_key(self, key_id: KeyId, *, actor: Key) -> dict[str, Any]: ...

    async def prices(self) -> list[dict[str, Any]]: ...

    async def add_price(self, version: PriceVersion, *, actor: Key) -> dict[str, Any]: ...

    async def rates(self) -> list[dict[str, Any]]: ...

    async def add_rate(self, version: RateVersion, *, actor: Key) -> dict[str, Any]: ...

    async def refresh(self) -> dict[str, Any]:
        """Read keys, budgets, prices and rates again now: another process has changed them."""
        ...

    async def audit_log(self, limit: int) -> list[dict[str, Any]]:
        """Newest first."""
        ...

    def note(self, *, actor: Key, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Enter an admin's action in the audit log."""
        ...

    def budget_gauges(self) -> Sequence[BudgetGauge]:
        """How the budgets stand, for /metrics."""
        ...
