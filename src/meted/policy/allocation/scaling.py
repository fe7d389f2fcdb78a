"""How many replicas a deployment is to have on shared cores: between its bounds, by its load."""

import math
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand
from meted.domain.units import MICROS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """One more replica when those there are would be busier than `busy_above`, or when more than
    `queue` requests for each wait; fewer when nothing waits and those left would be less busy than that by
    `hysteresis`. A deployment that may have none keeps its last for `keep_warm_s` seconds.
    """

    busy_above: float
    hysteresis: float
    queue: int
    keep_warm_s: float

    def __post_init__(self) -> None:
        if not 0 < self.busy_above <= 1 or not 0 <= self.hysteresis < self.busy_above:
            raise ValueError(
                f"policy.scale_above is {self.busy_above} and scale_hysteresis {self.hysteresis}; "
                "expected 0 <= scale_hysteresis < scale_above <= 1"
            )
        if self.queue < 1 or self.keep_warm_s < 0:
            raise ValueError(
                f"policy.scale_queue is {self.queue} and keep_warm_s {self.keep_warm_s}; "
                "expected 1 or more requests and 0 or more seconds"
            )

    def wanted(self, demand: DeploymentDemand) -> tuple[int, str]:
        """How many replicas, and why; those that start count as there already."""
        have = demand.replicas + demand.starting
        needed = math.ceil(demand.utilisation / self.busy_above)
        if demand.queued > self.queue * have:
            needed = max(needed, math.ceil(demand.queued / self.queue))
        kept = math.ceil(demand.utilisation / max(1e-9, self.busy_above - self.hysteresis))
        idle = not (demand.queued or demand.running)
        if idle and (have == 0 or self._is_over(demand)):
            floor, why = 0, self._rest(demand, have)
        else:
            floor, why = 1, f"bounds {demand.least} to {demand.most}"
        wanted = needed if needed > have else min(have, max(needed, kept, demand.queued and have))
        if floor == 0:
            wanted = 0
        count = min(demand.most, max(demand.least, floor, wanted))
        return count, (
            f"{count} replicas ({demand.replicas} ready, {demand.starting} starting, "
            f"{demand.draining} draining; {why})"
        )

    def _is_over(self, demand: DeploymentDemand) -> bool:
        """Ski rental: what is kept for as long as a new start would cost is given up."""
        return demand.least == 0 and demand.quiet >= self.keep_warm_s * MICROS_PER_SECOND

    def _rest(self, demand: DeploymentDemand, have: int) -> str:
        quiet = demand.quiet / MICROS_PER_SECOND
        if demand.least:
            return f"bounds {demand.least} to {demand.most}"
        if not have:
            return f"unloaded, quiet for {quiet:.0f} s; the next request starts one"
        return f"quiet for {quiet:.0f} s, kept warm for {self.keep_warm_s:.0f} s; unloaded"
