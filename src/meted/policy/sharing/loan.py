"""Loan and reclaim: serving's forecast first, with headroom; the rest is lent to jobs."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.serving.counting import Scale
from meted.policy.serving.demand_based import count_wishes
from meted.policy.serving.warm import Warm
from meted.policy.sharing.line import Line, Order, Victims
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """Serving gets replicas for its forecast with 1 - busy of headroom, and `spare` more, at once,
    from free devices or from the jobs that lose least by it; it gives devices back when the largest
    count of the last `window_s` falls.

    order: of the jobs that wait. overtake: 1 lets jobs that do not delay an earlier one start
    before it. Others as in `DemandScaling`.
    """

    order: str = "shortest"
    overtake: float = 1.0
    busy: float = 0.7
    hysteresis: float = 0.15
    drain_s: float = 60.0
    window_s: float = 600.0
    late_usd: float = 0.0
    spare: int = 1

    def __post_init__(self) -> None:
        if self.order not in list(Order):
            raise ValueError(f"policy.order is {self.order!r}; expected one of {', '.join(Order)}")

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        scale = Scale(
            busy=self.busy,
            hysteresis=self.hysteresis,
            drain_s=self.drain_s,
            window_s=self.window_s,
            spare=self.spare,
        )
        wishes, memory = count_wishes(snapshot, scale, Warm(late_usd=self.late_usd))
        line = Line(order=Order(self.order), overtake=bool(self.overtake), victims=Victims.CHEAPEST)
        return share(snapshot, wishes, line, memory=memory)
