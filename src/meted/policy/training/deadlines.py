"""Deadlines with elastic slack: one that cannot be kept never costs another its own."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.thrift import decide_thriftily


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinesPolicy:
    """As many deadlines as can be kept, then short waits, then little money.

    usd_per_hour: what an hour until a job's end is worth.
    """

    usd_per_hour: float = 3.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_thriftily(
            snapshot, usd_per_hour=self.usd_per_hour, park=False, name="deadlines"
        )
