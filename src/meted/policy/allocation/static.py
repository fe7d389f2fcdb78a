"""Fixed split: serving and training each keep their own devices. The baseline."""

from dataclasses import dataclass

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    Plan,
    ReplicaAllocation,
    Snapshot,
)
from meted.policy.allocation.common import first_job


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPolicy:
    """The first share of the devices serves, the rest trains, whatever the demand.

    A deployment has as many replicas as its lower bound says, at least one: it unloads nothing.
    serving_share: share of the pool for serving, rounded to whole devices, at least one.
    """

    serving_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.serving_share <= 1:
            raise ValueError(
                f"policy.serving_share is {self.serving_share}, expected more than 0, at most 1"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        devices = snapshot.pool.indices
        count = min(len(devices), max(1, round(self.serving_share * len(devices))))
        serving, training = devices[:count], devices[count:]
        split = f"fixed split, {count} of {len(devices)} devices serve"
        job = first_job(snapshot)
        jobs: tuple[JobAllocation, ...] = ()
        if job is not None:
            jobs = (
                JobAllocation(
                    job=job.job,
                    devices=training or devices,
                    threads=max(1, len(training)),
                    harvest=Harvest.SHARE if training else Harvest.NONE,
                    reason=f"{job.job}: {len(training)} devices of its own; {split}",
                ),
            )
        return Plan(
            replicas=tuple(
                ReplicaAllocation(
                    deployment=demand.deployment,
                    places=(serving,) * max(demand.least, min(1, demand.most)),
                    reason=f"{demand.deployment}: {split}",
                )
                for demand in snapshot.deployments
            ),
            jobs=jobs,
            idle_devices=() if job else training,
        )
