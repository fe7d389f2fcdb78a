"""The seam of all allocation policies: a snapshot in, a plan out."""

from typing import Protocol

from meted.domain.allocation import Plan, Snapshot


class Policy(Protocol):
    """A pure function of a snapshot: equal snapshots give equal plans.

    A policy is a frozen dataclass of parameters; what it must remember is in the snapshot's
    previous plan. Every allocation carries its reason, with numbers.
    """

    def decide(self, snapshot: Snapshot) -> Plan: ...
