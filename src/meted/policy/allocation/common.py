"""What the allocation policies share: replicas on all cores, one job at a time."""

from meted.domain.allocation import (
    DeploymentDemand,
    Harvest,
    JobAllocation,
    JobDemand,
    ReplicaAllocation,
    Snapshot,
)
from meted.policy.allocation.scaling import Scaling


def first_job(snapshot: Snapshot) -> JobDemand | None:
    """The job that is next in the queue; one trains at a time, because cores are few."""
    return min(snapshot.jobs, key=lambda job: (job.order, job.job), default=None)


def everywhere(snapshot: Snapshot, demand: DeploymentDemand, scaling: Scaling) -> ReplicaAllocation:
    """All devices of the pool for each replica; the operating system shares them by need."""
    devices = snapshot.pool.indices
    count, why = scaling.wanted(demand)
    return ReplicaAllocation(
        deployment=demand.deployment,
        places=(devices,) * count,
        reason=(
            f"{demand.deployment}: {why} on all {len(devices)} devices; "
            f"{demand.arrivals_per_second:.2f} requests/s forecast, {demand.running} running, "
            f"{demand.queued} queued, busy {demand.utilisation:.0%}"
        ),
    )


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
