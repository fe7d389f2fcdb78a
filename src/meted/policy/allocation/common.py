"""What the allocation policies share: replicas on all cores, one job at a time."""

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobDemand,
    ReplicaAllocation,
    Snapshot,
)
from meted.domain.units import DeploymentName
from meted.policy.allocation.scaling import Scaling, ScalingMemory
from meted.policy.serving.counting import ScaleMemory


def first_job(snapshot: Snapshot) -> JobDemand | None:
    """The job that is next in the queue; one trains at a time, because cores are few."""
    return min(snapshot.jobs, key=lambda job: (job.order, job.job), default=None)


def serving_everywhere(
    snapshot: Snapshot, scaling: Scaling
) -> tuple[tuple[ReplicaAllocation, ...], ScalingMemory]:
    """All devices of the pool for each replica; the operating system shares them by need."""
    devices = snapshot.pool.indices
    memory: dict[DeploymentName, ScaleMemory] = {}
    replicas: list[ReplicaAllocation] = []
    for demand in snapshot.deployments:
        count, remembered, why = scaling.wanted(snapshot, demand)
        if remembered is not None:
            memory[demand.deployment] = remembered
        reason = (
            f"{demand.deployment}: {why} on all {len(devices)} devices; "
            f"{demand.running} running, busy {demand.utilisation:.0%}"
        )
        replicas.append(
            ReplicaAllocation(
                deployment=demand.deployment, places=(devices,) * count, reason=reason
            )
        )
    return tuple(replicas), ScalingMemory(of=memory)


def harvesting(snapshot: Snapshot, job: JobDemand, harvest: Harvest, reason: str) -> JobAllocation:
    """All devices of the pool for a job, to be used as `harvest` says."""
    devices = snapshot.pool.indices
    return JobAllocation(
        job=job.job,
        devices=devices,
        threads=len(devices),
        harvest=harvest,
        reason=f"{job.job}: {harvest}; {reason}",
    )


def previous_harvest(snapshot: Snapshot, job: JobDemand) -> Harvest | None:
    """How the last plan let this job run."""
    allocation = snapshot.previous.job(job.job) if snapshot.previous else None
    return allocation.harvest if allocation else None
