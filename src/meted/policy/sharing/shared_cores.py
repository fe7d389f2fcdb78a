"""Where the operating system shares devices by need, nothing has to be lent or taken back."""

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    Plan,
    ReplicaAllocation,
    Snapshot,
    Waiting,
)


def on_shared_cores(snapshot: Snapshot) -> Plan:
    """The replicas there are, within their bounds, on all devices, and the first job in what they
    leave."""
    devices = snapshot.pool.indices
    replicas: list[ReplicaAllocation] = []
    for demand in snapshot.deployments:
        have = max(1, demand.replicas + demand.starting)
        count = min(demand.most, max(demand.least, have))
        replicas.append(
            ReplicaAllocation(
                deployment=demand.deployment,
                places=(devices,) * count,
                reason=f"{demand.deployment}: {count} replicas on all {len(devices)} devices, "
                "which the operating system shares",
            )
        )
    jobs = sorted(snapshot.jobs, key=lambda job: (job.order, job.job))
    return Plan(
        replicas=tuple(replicas),
        jobs=tuple(
            JobAllocation(
                job=job.job,
                devices=devices,
                threads=len(devices),
                harvest=Harvest.IDLE if snapshot.deployments else Harvest.SHARE,
                reason=f"{job.job}: what serving leaves of {len(devices)} devices",
            )
            for job in jobs[:1]
        ),
        waiting=tuple(
            Waiting(job=job.job, reason=f"{job.job}: {place} jobs are before it")
            for place, job in enumerate(jobs)
            if place
        ),
    )
