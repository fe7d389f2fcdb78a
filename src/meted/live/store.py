"""The seam to durable storage: the books and what the house must remember."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meted.domain.deployment import Deployment
from meted.domain.job import Job
from meted.domain.line import Interval
from meted.domain.request import Outcome
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, RequestId, TenantName
from meted.ledger.recovery import Suspended
from meted.live.doors import Key


class StoreError(Exception):
    """The store cannot do what was asked: which file, what it found, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A request that has ended; never its prompt or its answer. Times are wall-clock micros."""

    request_id: RequestId
    tenant: TenantName
    key_id: str
    deployment: DeploymentName
    arrived: Micros
    ended: Micros
    outcome: Outcome
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_us: int | None
    device_nanos: int
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRow:
    """One point of a job's loss curve; device_nanos and cost are the job's totals so far."""

    job: JobName
    step: int
    tokens: int
    loss: float | None
    held_out: float | None
    when: str
    device_nanos: int
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is written in one transaction: all of it is durable, or none."""

    closed: tuple[Interval, ...] = ()
    open: Interval | None = None
    requests: tuple[RequestRow, ...] = ()
    losses: tuple[LossRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A session that did not end: its open interval, and what all its intervals left suspended.

    interval is empty (no time, no lines) where the crash came right after a close.
    """

    interval: Interval
    suspended: tuple[Suspended, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Device time and cost of a job over all closed intervals."""

    job: JobName
    device_nanos: int
    cost: NanoUSD


class Store(Protocol):
    """Durable, exactly once. Blocking: the house calls it from a thread of its own."""

    def write(self, batch: Batch) -> None:
        """Append. A closed interval, request or loss point written before is not written again.
        `open` replaces the provisional interval of its session; closing it removes it."""
        ...

    def crashed(self) -> Sequence[Crashed]:
        """Sessions with an open interval, or with time on accounts that were never resolved."""
        ...

    def job_totals(self) -> Sequence[Total]: ...

    def save_deployment(self, deployment: Deployment) -> None: ...

    def remove_deployment(self, name: DeploymentName) -> None: ...

    def deployments(self) -> Sequence[Deployment]: ...

    def save_job(self, job: Job) -> None: ...

    def jobs(self) -> Sequence[Job]:
        """Oldest first."""
        ...

    def losses(self, job: JobName) -> Sequence[LossRow]: ...

    def create_key(self, *, tenant: TenantName, name: str, admin: bool) -> tuple[Key, str]:
        """A new key and its secret, which is shown once and stored only as a hash."""
        ...

    def find_key(self, secret: str) -> Key | None: ...

    def keys(self) -> Sequence[Key]: ...

    def revoke_key(self, key_id: str) -> None: ...

    def version(self) -> int:
        """Changes whenever another process has written."""
        ...

    def close(self) -> None: ...
