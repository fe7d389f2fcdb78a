"""Demand-based: replicas follow the forecast and the queue, jobs get what is left."""

from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, Plan, Snapshot
from meted.domain.units import DeploymentName
from meted.policy.serving.counting import Scale, ScaleMemory, wanted_replicas
from meted.policy.serving.memory import ServingMemory, remembered
from meted.policy.serving.warm import Warm
from meted.policy.sharing.line import Line, Order
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, all_places_before, options_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandScaling:
    """Every deployment runs its first option, and others where the pool has no room for it.

    busy, hysteresis, drain_s, window_s: of `Scale`. late_usd: of `Warm`, for deployments that may
    have no replica. Jobs get the rest by first come, first served; with overtake 1 those that do
    not delay an earlier one go before it.
    """

    busy: float = 0.8
    hysteresis: float = 0.15
    drain_s: float = 60.0
    window_s: float = 300.0
    late_usd: float = 0.0
    overtake: float = 1.0

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        scale = Scale(
            busy=self.busy,
            hysteresis=self.hysteresis,
            drain_s=self.drain_s,
            window_s=self.window_s,
        )
        wishes, memory = count_wishes(snapshot, scale, Warm(late_usd=self.late_usd))
        line = Line(order=Order.ARRIVAL, overtake=bool(self.overtake))
        return share(snapshot, wishes, line, memory=memory)


def count_wishes(snapshot: Snapshot, scale: Scale, warm: Warm) -> tuple[list[Wish], ServingMemory]:
    """What every deployment wants by its forecast, its queue, and what loads already."""
    memory, before = remembered(snapshot), all_places_before(snapshot)
    scales: dict[DeploymentName, ScaleMemory] = {}
    wishes: list[Wish] = []
    for demand in snapshot.deployments:
        wish, scales[demand.deployment] = _wish(
            snapshot,
            demand,
            scale,
            warm,
            memory=memory.scales.get(demand.deployment),
            previous=len(before.get(demand.deployment, ())),
        )
        wishes.append(wish)
    return wishes, ServingMemory(scales=scales, decided=snapshot.now)


def _wish(
    snapshot: Snapshot,
    demand: DeploymentDemand,
    scale: Scale,
    warm: Warm,
    *,
    memory: ScaleMemory | None,
    previous: int,
) -> tuple[Wish, ScaleMemory]:
    option, *others = options_of(demand)
    count, memory, reason = wanted_replicas(
        demand,
        option.requests_per_second,
        previous=previous,
        now=snapshot.now,
        memory=memory,
        scale=scale,
    )
    if demand.least == 0:
        count, reason = rest_or_stay(snapshot, demand, warm, count, reason)
    wish = Wish(demand=demand, replicas=((option, count),), reason=reason, others=tuple(others))
    return wish, memory


def rest_or_stay(
    snapshot: Snapshot, demand: DeploymentDemand, warm: Warm, count: int, reason: str
) -> tuple[int, str]:
    """Nobody asks: keep the last replica warm, or let it go."""
    option = options_of(demand)[0]
    wanted = any(not job.running for job in snapshot.jobs)
    if warm.rests(demand, snapshot.pool, option, wanted=wanted):
        cold = warm.cold_nano_usd(snapshot.pool, option) / 1e9
        return 0, (
            f"quiet for {demand.quiet / 1e6:.0f} s; keeping it warm has cost what a cold start "
            f"costs, ${cold:.4f}"
        )
    if count == 0:
        keep = warm.keep_micros(snapshot.pool, option, wanted=wanted) / 1e6
        return 1, f"kept warm: quiet for {demand.quiet / 1e6:.0f} s of {keep:.0f} s; {reason}"
    return count, reason
