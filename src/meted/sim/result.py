"""What became of a simulation: jobs, requests, decisions, and every device's time."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName
from meted.predict.batching import Served


class Use(StrEnum):
    """What a device's time went to; every moment of every device is one of them."""

    SERVING = "serving"
    READY = "ready"
    LOADING = "loading"
    TRAINING = "training"
    RESTARTING = "restarting"
    LOST = "lost"
    IDLE = "idle"
    PARKED = "parked"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Segment:
    """A device's use from one moment to another. who: the job or the replica; tenant: who pays."""

    device: int
    begins: Micros
    ends: Micros
    use: Use
    who: str
    tenant: TenantName
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What became of a job. Moments; None: it has not come to that. attained: device-time."""

    name: JobName
    tenant: TenantName
    arrived: Micros
    started: Micros | None
    finished: Micros | None
    deadline: Micros | None
    attained: Micros
    restarts: int
    cost: NanoUSD

    @property
    def missed(self) -> bool:
        """It had a deadline and was not finished by then."""
        return self.deadline is not None and (
            self.finished is None or self.finished > self.deadline
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentResult:
    """What became of a deployment's requests: those answered, how many were refused or lost.

    unfunded: refused because their tenants' budgets had no money for them, not among `refused`.
    """

    deployment: DeploymentName
    served: Sequence[Served]
    refused: int = 0
    unfinished: int = 0
    unfunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetResult:
    """How a period of a tenant's budget ended. reserved: for what still ran at the end. refused:
    requests that it had no money for."""

    tenant: TenantName
    begins: Micros
    ends: Micros
    limit: NanoUSD
    spent: NanoUSD
    reserved: NanoUSD
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One sentence of control's log."""

    at: Micros
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole simulation. decide_seconds belongs to benchmarks, so it is not in here."""

    ended: Micros
    jobs: Sequence[JobResult]
    deployments: Sequence[DeploymentResult]
    segments: Sequence[Segment]
    decisions: Sequence[Decision]
    plans: int
    budgets: Sequence[BudgetResult] = ()
