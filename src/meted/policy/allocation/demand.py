"""Demand-based: training gives way as arrivals and queues grow, and comes back when they fall."""

from dataclasses import dataclass

from meted.domain.allocation import Harvest, Plan, Snapshot
from meted.policy.allocation.common import (
    first_job,
    harvesting,
    previous_harvest,
    serving_everywhere,
)
from meted.policy.allocation.scaling import ScalingParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandPolicy(ScalingParameters):
    """Serving may use every device; how training harvests follows forecast use and queue.

    Up to `gaps_above` forecast utilisation training runs always, in the idle class; above it only
    in the gaps between requests; above `pause_above`, or with `pause_queue` requests waiting, not
    at all. It comes back one level when utilisation is `hysteresis` below the limit it crossed,
    so that it does not flap. How many replicas it wants, `Scaling` says.
    """

    gaps_above: float = 0.05
    pause_above: float = 0.9
    pause_queue: int = 4
    hysteresis: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.gaps_above <= self.pause_above:
            raise ValueError(
                f"policy.gaps_above is {self.gaps_above} and pause_above {self.pause_above}; "
                "expected 0 <= gaps_above <= pause_above"
            )
        _ = self.scaling

    def decide(self, snapshot: Snapshot) -> Plan:
        replicas, memory = serving_everywhere(snapshot, self.scaling)
        job = first_job(snapshot)
        if job is None:
            return Plan(replicas=replicas, jobs=(), memory=memory)
        busy = sum(demand.utilisation for demand in snapshot.deployments)
        queued = sum(demand.queued for demand in snapshot.deployments)
        previous = previous_harvest(snapshot, job)
        pause_at = self.pause_above - (self.hysteresis if previous is Harvest.NONE else 0)
        gaps_at = self.gaps_above - (
            self.hysteresis if previous in (Harvest.GAPS, Harvest.NONE) else 0
        )
        seen = f"serving is forecast {busy:.0%} busy, {queued} requests wait"
        if busy > pause_at or queued >= self.pause_queue:
            harvest, why = (
                Harvest.NONE,
                f"{seen}: over {pause_at:.0%} or {self.pause_queue} waiting",
            )
        elif busy > gaps_at:
            harvest, why = Harvest.GAPS, f"{seen}: between {gaps_at:.0%} and {pause_at:.0%}"
        else:
            harvest, why = Harvest.IDLE, f"{seen}: at most {gaps_at:.0%}"
        return Plan(
            replicas=replicas, jobs=(harvesting(snapshot, job, harvest, why),), memory=memory
        )
