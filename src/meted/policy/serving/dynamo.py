"""A baseline: the throughput-based SLA planner of NVIDIA Dynamo, by its documentation."""

import math
from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND
from meted.policy.serving.memory import ServingMemory, remembered
from meted.policy.sharing.line import Line, Victims
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, options_of, places_before


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoPlanner:
    """Every `interval_s`: replicas = ceil(predicted requests per second / what one answers inside
    the SLA), at least one; between two adjustments nothing changes.

    Its own profile is the option's rate here, its predictor the forecast that every policy sees.
    It has no headroom of its own: who wants some gives it a tighter SLA than clients have, which is
    `load`, the share of an option's rate that it counts on. It removes replicas as soon as they are
    too many (docs.nvidia.com/dynamo, Planner Design: Scaling Algorithm; 180 s is its default
    interval). Its correction of latencies measured against the profile is left out: the simulator's
    steps are the profile's. Replicas have a higher priority than jobs, as in `KubernetesHpa`.
    """

    interval_s: float = 180.0
    load: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.load <= 1:
            raise ValueError(f"policy.load is {self.load}, expected a share above 0 up to 1")
        if self.interval_s <= 0:
            raise ValueError(f"policy.interval_s is {self.interval_s}, expected more than 0")

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        memory = remembered(snapshot)
        since = snapshot.now - memory.decided
        adjusts = snapshot.previous is None or since >= self.interval_s * MICROS_PER_SECOND
        wishes: list[Wish] = []
        for demand in snapshot.deployments:
            option, *others = options_of(demand)
            count = len(places_before(snapshot, demand))
            reason = f"{count} until the next adjustment, every {self.interval_s:.0f} s"
            if adjusts:
                rate = demand.arrivals_per_second
                each = self.load * option.requests_per_second
                count = max(1, math.ceil(rate / each - 1e-9))
                reason = f"{rate:.2f} requests/s at {each:.2f} each"
            count = min(demand.most, max(demand.least, count))
            wishes.append(
                Wish(
                    demand=demand,
                    replicas=((option, count),),
                    reason=reason,
                    others=tuple(others),
                )
            )
        decided = snapshot.now if adjusts else memory.decided
        return share(
            snapshot,
            wishes,
            Line(victims=Victims.NEWEST),
            memory=ServingMemory(decided=decided),
        )
