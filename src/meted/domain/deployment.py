"""A deployment: a named checkpoint kept ready to answer, with its SLO and its wishes."""

from dataclasses import dataclass, field
from enum import StrEnum

from meted.domain.engine_settings import EngineSettings
from meted.domain.units import DeploymentName, Micros, ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """Targets for the 95th percentile: time to first token, and time per output token."""

    ttft_p95: Micros
    tpot_p95: Micros


DEFAULT_SLO = SLO(ttft_p95=Micros(2_000_000), tpot_p95=Micros(200_000))
DEFAULT_MAX_BATCH = 16
DEFAULT_MAX_QUEUE = 64


class Task(StrEnum):
    """What a checkpoint does for a request."""

    GENERATE = "generate"
    EMBED = "embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A checkpoint by name, how many replicas are wanted, and what they owe their clients.

    least, most: bounds between which a policy may choose; None: `replicas`. least 0 lets it unload
    a deployment that nobody uses.
    """

    name: DeploymentName
    checkpoint: str
    task: Task
    replicas: int
    slo: SLO
    max_batch: int
    max_queue: int
    least: int | None = None
    most: int | None = None
    settings: EngineSettings = field(default_factory=EngineSettings)

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and most replicas."""
        least = self.replicas if self.least is None else self.least
        return least, max(least, self.replicas if self.most is None else self.most)


class ReplicaStatus(StrEnum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One running copy of a deployment, on its devices."""

    id: ReplicaId
    deployment: DeploymentName
    status: ReplicaStatus
    threads: int
    devices: tuple[int, ...] = ()
    starts: int = 1
    retry_at: Micros | None = None
