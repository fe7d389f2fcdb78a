"""The last job ends as early as can be; then as cheaply as that allows."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.horizon import decide_by


@dataclass(frozen=True, slots=True, kw_only=True)
class MakespanPolicy:
    """One linear program for the least time, and one for the least cost within it.

    room: how much longer than the least it may take, because devices come whole.
    """

    room: float = 1.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_by(snapshot, factor=self.room, park=False, name="makespan")
