"""All that control remembers between two events."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from immutables import Map

from meted.domain.allocation import Plan
from meted.domain.deployment import Deployment, Replica
from meted.domain.job import Job
from meted.domain.pool import Pool
from meted.domain.units import DeploymentName, JobName, ReplicaId
from meted.policy.protocol import Policy

Occupant = ReplicaId | DeploymentName | JobName
"""Who uses a device, or waits for it: a replica or a job; a deployment or a job."""

EMPTY_PLAN = Plan(replicas=(), jobs=())


class ControlError(ValueError):
    """An event asks for what the state does not allow: which thing, its state, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlState:
    """Deployments and their replicas, jobs in the order they came, and the plan in force.

    lost: devices that failed or vanished. Where devices are not shared, `occupied` says who uses
    each, and `blocked` who waits for a device that another still has to leave.
    solver_seconds: what a policy's solver may take.
    """

    pool: Pool
    policy: Policy
    deployments: Mapping[DeploymentName, Deployment] = field(
        default_factory=dict[DeploymentName, Deployment]
    )
    replicas: Mapping[ReplicaId, Replica] = field(default_factory=dict[ReplicaId, Replica])
    jobs: Mapping[JobName, Job] = field(default_factory=dict[JobName, Job])
    plan: Plan = EMPTY_PLAN
    replicas_ever: int = 0
    lost: frozenset[int] = frozenset()
    occupied: Map[int, Occupant] = Map()
    blocked: Map[int, Occupant] = Map()
    solver_seconds: float = 1.0
    seed: int = 0
