"""A fixed number of replicas for each deployment, the rest for training: the usual split."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.sharing.line import Line, Order
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, options_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSplit:
    """replicas: of every deployment, always, within its bounds; jobs by first come, first served
    on the others, or in another `order`. overtake: 1 lets jobs that do not delay an earlier one
    start before it."""

    replicas: float = 1.0
    overtake: float = 0.0
    order: str = "arrival"

    def __post_init__(self) -> None:
        if self.order not in list(Order):
            raise ValueError(f"policy.order is {self.order!r}; expected one of {', '.join(Order)}")
        if self.replicas < 0 or self.replicas != int(self.replicas):
            raise ValueError(f"policy.replicas is {self.replicas}, expected a whole number")

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        wishes: list[Wish] = []
        for demand in snapshot.deployments:
            option, *others = options_of(demand)
            count = min(demand.most, max(demand.least, int(self.replicas)))
            wishes.append(
                Wish(
                    demand=demand,
                    replicas=((option, count),),
                    reason=f"{count} replicas always",
                    others=tuple(others),
                )
            )
        return share(snapshot, wishes, Line(order=Order(self.order), overtake=bool(self.overtake)))
