"""The least money: within deadlines, within a makespan, or against what waiting is worth."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.horizon import decide_by
from meted.policy.training.thrift import decide_thriftily


@dataclass(frozen=True, slots=True, kw_only=True)
class CheapestPolicy:
    """What is not used is parked where that is cheaper than idle.

    makespan_factor: above 0, all work is done within so many times the least time it could take.
    Otherwise deadlines are kept, and usd_per_hour is what an hour until a job's end is worth: 0
    leaves all devices off but the cheapest for each job.
    """

    makespan_factor: float = 0.0
    usd_per_hour: float = 0.1

    def __post_init__(self) -> None:
        if self.makespan_factor and self.makespan_factor < 1:
            raise ValueError(
                f"policy.makespan_factor is {self.makespan_factor}, expected 0 for none or at "
                "least 1; 1.1 gives the cheapest plan 10 % more time than the fastest needs"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        if self.makespan_factor:
            return decide_by(snapshot, factor=self.makespan_factor, park=True, name="cheapest")
        return decide_thriftily(
            snapshot, usd_per_hour=self.usd_per_hour, park=True, name="cheapest"
        )
