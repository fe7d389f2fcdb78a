"""First come, first served: each job on the fastest devices that are left."""

from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.in_line import Rank, choose_in_line
from meted.policy.training.rounds import Rotation, rotate
from meted.policy.training.ways import Floats, Ways


@dataclass(frozen=True, slots=True, kw_only=True)
class FifoPolicy:
    """Jobs in the order in which they came; the first that is too wide for what is left ends it.

    keep_seconds: time for which a decision stands. overtake: 1 lets later jobs that fit go before
    one that does not.
    """

    keep_seconds: float = 0.0
    overtake: float = 0.0

    def decide(self, snapshot: Snapshot) -> Plan:
        return decide_in_line(
            snapshot,
            lambda job: (job.order,),
            keep_seconds=self.keep_seconds,
            overtake=bool(self.overtake),
            told="in the order of arrival",
        )


def decide_in_line(
    snapshot: Snapshot,
    rank: Rank,
    *,
    keep_seconds: float,
    overtake: bool,
    told: str,
) -> Plan:
    """Serve a line: whoever is in front takes the fastest way that has room."""
    places = {job.job: place for place, job in enumerate(sorted(snapshot.jobs, key=rank), start=1)}

    def wanted(ways: Ways) -> Floats:
        return _line(ways, rank, overtake=overtake)

    return rotate(
        snapshot,
        Rotation(keep_seconds=keep_seconds, backfill=False),
        wanted,
        why=lambda ways, values: f"{told}, one of {len(places)} jobs",
    )


def _line(ways: Ways, rank: Rank, *, overtake: bool) -> Floats:
    shares = np.zeros(len(ways.job))
    shares[choose_in_line(ways, rank, overtake=overtake)] = 1.0
    return shares
