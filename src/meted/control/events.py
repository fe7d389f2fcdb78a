"""What happened: all that control ever learns of a world. `now` is monotonic micros."""

from collections.abc import Mapping
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, JobDemand, TenantBudget
from meted.domain.deployment import Deployment
from meted.domain.job import Job, JobProgress, JobSpec
from meted.domain.pool import Price
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A deployment is wanted (new, or remembered from before a restart)."""

    now: Micros
    deployment: Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeployed:
    """A deployment is no longer wanted."""

    now: Micros
    name: DeploymentName


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReady:
    """A replica has loaded its weights."""

    now: Micros
    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDrained:
    """A draining replica has no request left."""

    now: Micros
    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaDied:
    """A replica's process has ended; reason is a sentence if it gave one."""

    now: Micros
    replica: ReplicaId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    """A job is wanted."""

    now: Micros
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRemembered:
    """A job from before a restart of the house; its process is gone."""

    now: Micros
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMoved:
    """A trainer reports how far it is."""

    now: Micros
    name: JobName
    progress: JobProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWaits:
    """A trainer has made its work durable and waits, as it was told."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """A trainer's checkpoint is registered."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGaveUp:
    """A trainer says that it cannot go on, and why: a retry would not help."""

    now: Micros
    name: JobName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDied:
    """A trainer's process has ended without a word, or after it was told to stop."""

    now: Micros
    name: JobName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobForgotten:
    """Nobody asks any more for a job that has ended."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseAsked:
    """A user wants a job to wait."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAsked:
    """A user wants a paused job to go on."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """A user wants a job to end without a result."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyGone:
    """No budget pays for the next part of a job; reason: which one, with its numbers."""

    now: Micros
    name: JobName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyBack:
    """The next part of a job that was held for lack of money is paid for."""

    now: Micros
    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSeen:
    """The world's demands at the end of a policy interval, and the money that tenants have."""

    now: Micros
    deployments: tuple[DeploymentDemand, ...]
    jobs: tuple[JobDemand, ...]
    budgets: tuple[TenantBudget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesLost:
    """Devices failed or vanished; what ran on them is reported apart."""

    now: Micros
    devices: frozenset[int]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesBack:
    """Devices that were lost can be used again."""

    now: Micros
    devices: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesChanged:
    """Kinds of devices cost something else from now on."""

    now: Micros
    prices: Mapping[str, Price]


JobEvent = (
    JobSubmitted
    | JobRemembered
    | JobMoved
    | JobWaits
    | JobFinished
    | JobGaveUp
    | JobDied
    | JobForgotten
    | PauseAsked
    | ResumeAsked
    | CancelAsked
    | MoneyGone
    | MoneyBack
)
Event = (
    Deployed
    | Undeployed
    | ReplicaReady
    | ReplicaDrained
    | ReplicaDied
    | DevicesLost
    | DevicesBack
    | PricesChanged
    | DemandSeen
    | JobEvent
)
