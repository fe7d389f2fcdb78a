"""Deployments and replicas as the hot path sees them."""

from collections.abc import Callable

from meted.control.demand_watch import DemandWatch
from meted.domain.deployment import Deployment
from meted.domain.line import Account, Kind
from meted.domain.units import Micros, ReplicaId, RequestId, TenantName, Tokens
from meted.live.host import Worker
from meted.live.tickets import LiveRequest
from meted.live.waiting import Waiting


def _equal(_tenant: TenantName) -> int:
    return 1


class ServedReplica:
    """One replica as the hot path sees it."""

    def __init__(
        self,
        replica_id: ReplicaId,
        worker: Worker,
        deployment: Deployment,
        *,
        started: Micros = Micros(0),
    ) -> None:
        self.id = replica_id
        self.started = started
        self.worker = worker
        self.deployment = deployment
        self.max_batch = 0
        self.ready = False
        self.draining = False
        self.cache_usage = 0.0
        self.failure: str | None = None
        self.running: dict[RequestId, LiveRequest] = {}


class ServedDeployment:
    """One deployment as the hot path sees it: its queue, its replicas, what it has done."""

    def __init__(
        self, deployment: Deployment, *, weight_of: Callable[[TenantName], int] = _equal
    ) -> None:
        self.deployment = deployment
        self.context_tokens = Tokens(0)
        self.waiting = Waiting(weight_of)
        self.replicas: dict[ReplicaId, ServedReplica] = {}
        self.watch = DemandWatch(deployment)
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.overhead = Account(kind=Kind.OVERHEAD, deployment=deployment.name)
        self.to_come = 0
        """Processes of replicas that are being started and that it does not know yet."""
        self.closed = False

    @property
    def running(self) -> int:
        """Requests that are on a replica now."""
        return sum(len(replica.running) for replica in self.replicas.values())
