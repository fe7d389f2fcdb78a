"""What control wants done: a world executes effects and answers with events."""

from dataclasses import dataclass

from meted.domain.allocation import JobAllocation
from meted.domain.deployment import Deployment, Replica
from meted.domain.job import Job, JobSpec
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReplica:
    """Start a replica's process on these devices."""

    replica: Replica
    deployment: Deployment
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReplica:
    """Let a running replica use these devices from now on (only where devices are shared)."""

    replica: ReplicaId
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReplica:
    """Send it no new request; say when it has none left."""

    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReplica:
    """End its process."""

    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJob:
    """Start a trainer's process; it resumes from its newest durable checkpoint by itself."""

    spec: JobSpec
    allocation: JobAllocation


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceJob:
    """Let a running job use its devices in this way."""

    allocation: JobAllocation


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseJob:
    """Tell a trainer to make its work durable and wait."""

    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeJob:
    """Tell a waiting trainer to go on."""

    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob:
    """Tell a trainer to make its work durable and end."""

    name: JobName


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveDeployment:
    """Remember a deployment over a restart."""

    deployment: Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetDeployment:
    """Do not bring a deployment back after a restart."""

    name: DeploymentName


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveJob:
    """Remember a job over a restart."""

    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """A decision and its reason, for whoever asks why."""

    at: Micros
    reason: str


Effect = (
    StartReplica
    | PlaceReplica
    | DrainReplica
    | StopReplica
    | StartJob
    | PlaceJob
    | PauseJob
    | ResumeJob
    | StopJob
    | SaveDeployment
    | ForgetDeployment
    | SaveJob
    | Explain
)
