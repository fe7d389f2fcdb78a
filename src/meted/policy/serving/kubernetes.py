"""A baseline: the Horizontal Pod Autoscaler of Kubernetes, by its documentation."""

import math
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND, DeploymentName
from meted.policy.serving.counting import ScaleMemory
from meted.policy.serving.memory import ServingMemory, remembered
from meted.policy.sharing.line import Line, Victims
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, all_places_before, options_of

SYNC_S = 15.0
"""Seconds between two looks of the autoscaler, which is also the period of its rates."""
ADDED_PODS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesHpa:
    """desired = ceil(current * metric / target), for two metrics of a pod, of which the larger
    count rules: requests per second against `target` of what a replica answers inside its SLO, and
    waiting requests against `queue`.

    Nothing changes while the ratio is within `tolerance` of 1. Pods that are not ready count as
    using nothing when scaling up, and not at all when scaling down, and never turn the direction.
    A count falls to the largest recommendation of the last `window_s`. Within 15 s it at most
    doubles or grows by 4 pods, whichever is more. The defaults are those of the documentation
    (kubernetes.io, Horizontal Pod Autoscaling: algorithm details, configurable scaling behavior).
    Replicas have a higher priority than jobs: the youngest jobs give way. Jobs come first, first
    served.
    """

    target: float = 0.7
    queue: float = 4.0
    tolerance: float = 0.1
    window_s: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1 or self.queue <= 0:
            raise ValueError(
                f"policy.target is {self.target} and queue {self.queue}; expected a share above 0 "
                "up to 1, and more than 0 requests"
            )
        if not 0 <= self.tolerance < 1 or self.window_s < 0:
            raise ValueError(
                f"policy.tolerance is {self.tolerance} and window_s {self.window_s}; expected 0 to "
                "below 1, and 0 or more seconds"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        memory, before = remembered(snapshot), all_places_before(snapshot)
        scales: dict[DeploymentName, ScaleMemory] = {}
        wishes: list[Wish] = []
        elapsed = (snapshot.now - memory.decided) / MICROS_PER_SECOND
        for demand in snapshot.deployments:
            option, *others = options_of(demand)
            current = len(before.get(demand.deployment, ()))
            asked = max(
                self._desired(
                    demand, current, demand.arrivals_per_second,
                    self.target * option.requests_per_second,
                ),
                self._desired(demand, current, float(demand.queued), self.queue),
            )  # fmt: skip
            scale = memory.scales.get(demand.deployment, ScaleMemory()).called(
                asked, snapshot.now, self.window_s
            )
            scales[demand.deployment] = scale
            count = _limited(current, max(asked, scale.largest()), elapsed)
            count = min(demand.most, max(demand.least, count))
            wishes.append(
                Wish(
                    demand=demand,
                    replicas=((option, count),),
                    reason=(
                        f"{demand.arrivals_per_second:.2f} requests/s and {demand.queued} queued "
                        f"on {current} pods, {demand.replicas} ready: {asked} desired, "
                        f"{scale.largest()} in the last {self.window_s:.0f} s"
                    ),
                    others=tuple(others),
                )
            )
        line = Line(victims=Victims.NEWEST)
        return share(
            snapshot, wishes, line, memory=ServingMemory(scales=scales, decided=snapshot.now)
        )

    def _desired(self, demand: DeploymentDemand, current: int, total: float, target: float) -> int:
        """Pods by one metric. total: its sum over the ready pods."""
        ready = min(current, demand.replicas)
        if ready == 0:
            # Pods without a metric, or none at all: nothing to scale by, except from zero.
            return max(current, 1 if total > 0 else 0)
        ratio = total / ready / target
        if abs(ratio - 1) <= self.tolerance:
            return current
        if ratio < 1 or ready == current:
            return math.ceil(ratio * ready - 1e-9)
        dampened = total / current / target
        if dampened < 1 or abs(dampened - 1) <= self.tolerance:
            return current
        return math.ceil(dampened * current - 1e-9)


def _limited(current: int, count: int, elapsed_s: float) -> int:
    """At most doubled or 4 more, for each 15 s since the last decision."""
    limit = current
    for _ in range(max(1, int(elapsed_s // SYNC_S))):
        if limit >= count:
            break
        limit = max(2 * limit, limit + ADDED_PODS)
    return min(count, limit)
