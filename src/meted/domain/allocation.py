"""Snapshot in, plan out: all that a policy sees, and all that it decides."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.deployment import SLO
from meted.domain.pool import Pool
from meted.domain.units import DeploymentName, JobName, Micros


class Harvest(StrEnum):
    """How a training job may use the devices of its allocation, from nothing to everything.

    NONE: frozen. GAPS: runs only while no request is in flight. IDLE: runs always, in the
    operating system's idle class, so that serving takes a core back at once. SHARE: runs as an
    equal of serving on devices of its own.
    """

    NONE = "none"
    GAPS = "gaps"
    IDLE = "idle"
    SHARE = "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedServing:
    """What serving would feel if training harvested in one way. Times are 95th percentiles.

    samples: measured steps behind the prediction; 0 means a prior only.
    """

    harvest: Harvest
    ttft_p95: Micros
    tpot_p95: Micros
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDemand:
    """What clients want of a deployment now and, by forecast, in the next interval.

    utilisation: share of the time in which its engine has work, by forecast rate times measured
    service time; 1 is saturated.
    """

    deployment: DeploymentName
    replicas: int
    arrivals_per_second: float
    queued: int
    running: int
    utilisation: float
    tokens_per_second: float
    slo: SLO
    predicted: tuple[PredictedServing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDemand:
    """What a training job could use. order: its place in the queue, lowest first.

    tokens_per_device_second: measured, 0 while unknown.
    """

    job: JobName
    order: int
    remaining_steps: int
    tokens_per_device_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaAllocation:
    """Devices on which each replica of a deployment may run, and its engine's threads."""

    deployment: DeploymentName
    devices: tuple[int, ...]
    threads: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAllocation:
    """Devices on which a job may run, its threads, and how it may use them."""

    job: JobName
    devices: tuple[int, ...]
    threads: int
    harvest: Harvest
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who gets what until the next decision; demands without an allocation wait."""

    replicas: tuple[ReplicaAllocation, ...]
    jobs: tuple[JobAllocation, ...]
    idle_devices: tuple[int, ...] = ()

    def job(self, name: JobName) -> JobAllocation | None:
        return next((allocation for allocation in self.jobs if allocation.job == name), None)

    def deployment(self, name: DeploymentName) -> ReplicaAllocation | None:
        return next((one for one in self.replicas if one.deployment == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a policy may know: equal snapshots give equal plans."""

    now: Micros
    pool: Pool
    deployments: tuple[DeploymentDemand, ...]
    jobs: tuple[JobDemand, ...]
    previous: Plan | None = None
    seed: int = 0
