"""The highest priority first."""

from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.fifo import decide_in_line


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityPolicy:
    """Jobs by priority, equal ones in the order in which they came.

    keep_seconds: time for which a decision stands. overtake: 1 lets jobs that fit go before one of
    higher priority that does not.
    """

    keep_seconds: float = 0.0
    overtake: float = 1.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_in_line(
            snapshot,
            lambda job: (-job.priority, job.order),
            keep_seconds=self.keep_seconds,
            overtake=bool(self.overtake),
            told="by priority",
        )
