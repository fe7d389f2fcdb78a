"""Snapshot in, plan out: all that a policy sees, and all that it decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from meted.domain.deployment import SLO
from meted.domain.pool import Pool
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName


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
class ReplicaOption:
    """One way to run a replica: a variant on `devices` devices of one kind, on one node.

    requests_per_second: of the deployment's mix, answered inside its SLO, by prediction. ttft_p95
    and tpot_p95: at that rate. load: from its start until it is ready.
    """

    kind: str
    devices: int
    requests_per_second: float
    load: Micros
    ttft_p95: Micros = Micros(0)
    tpot_p95: Micros = Micros(0)
    variant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDemand:
    """What clients want of a deployment now and, by forecast, in the next interval.

    replicas: ready ones. starting: those that load; they are not missing. draining: those that
    finish their last requests. least, most: bounds of how many may be wanted. queued: requests
    that wait for a place in a batch. utilisation: share of the time in which an engine has work,
    by forecast rate times measured service time; 1 is saturated. quiet: since its last request
    came. options: ways to run a replica; none where the pool has one.
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
    starting: int = 0
    draining: int = 0
    least: int = 1
    most: int = 1
    quiet: Micros = Micros(0)
    tenant: TenantName = TenantName("")
    options: tuple[ReplicaOption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOption:
    """One way to run a job: on `devices` devices of one kind, spread over as few nodes as can be.

    steps_per_second: useful ones: where the batch grows with the devices, its statistical
    efficiency is in them (goodput).
    """

    kind: str
    devices: int
    steps_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDemand:
    """What a training job could use. order: its place in the queue, lowest first.

    tokens_per_device_second: measured, 0 while unknown. weight: its share in fair policies.
    priority: higher goes first. options: ways to run it; none where the pool has one. restart:
    time without a step whenever it starts or moves. attained: device-time received so far, by
    kind. running: it has devices now.
    """

    job: JobName
    order: int
    remaining_steps: int
    tokens_per_device_second: float
    total_steps: int = 0
    tenant: TenantName = TenantName("")
    arrived: Micros = Micros(0)
    weight: float = 1.0
    priority: int = 0
    deadline: Micros | None = None
    restart: Micros = Micros(0)
    attained: Mapping[str, Micros] = field(default_factory=dict[str, Micros])
    running: bool = False
    options: tuple[JobOption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantBudget:
    """Money of a tenant for a period. spent: with what is reserved for what runs."""

    tenant: TenantName
    limit: NanoUSD
    spent: NanoUSD
    begins: Micros
    ends: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaAllocation:
    """The replicas that a deployment is to have: for each, the devices on which it may run.

    places: one for each replica, () for none; equal ones share their devices (`Pool.shared`).
    """

    deployment: DeploymentName
    places: tuple[tuple[int, ...], ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAllocation:
    """Devices on which a job may run, its threads, and how it may use them.

    ends: when it will be finished if nothing changes, by prediction.
    """

    job: JobName
    devices: tuple[int, ...]
    threads: int
    harvest: Harvest
    reason: str
    ends: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job that gets nothing now, and why, with numbers."""

    job: JobName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who gets what until the next decision.

    idle_devices: kept on and unused. parked_devices: given back or switched off; what is in
    neither and allotted to nobody is idle. memory: what the policy wants to see again in the next
    snapshot's previous plan; a frozen value of its own.
    """

    replicas: tuple[ReplicaAllocation, ...]
    jobs: tuple[JobAllocation, ...]
    idle_devices: tuple[int, ...] = ()
    parked_devices: tuple[int, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    memory: object = None

    def job(self, name: JobName) -> JobAllocation | None:
        return next((allocation for allocation in self.jobs if allocation.job == name), None)

    def deployment(self, name: DeploymentName) -> ReplicaAllocation | None:
        return next((one for one in self.replicas if one.deployment == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a policy may know: equal snapshots give equal plans.

    unavailable: devices that failed, vanished, or belong to a replica that drains; a plan uses
    none of them. solver_seconds: time that a solver may take before it answers with the best it
    has found.
    """

    now: Micros
    pool: Pool
    deployments: tuple[DeploymentDemand, ...]
    jobs: tuple[JobDemand, ...]
    previous: Plan | None = None
    seed: int = 0
    budgets: tuple[TenantBudget, ...] = ()
    unavailable: frozenset[int] = frozenset()
    solver_seconds: float = 1.0
