"""What a search is told, asks, and answers."""

import math
from dataclasses import dataclass

from meted.domain.units import NanoUSD
from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a measurement said. effort: its share of a full one, 0 to 1.

    cost: dollars per million tokens. ttft_p95_s, tpot_p95_s: seconds. spent: what measuring cost.
    refused: why the candidate cannot be used at all (it failed, or quality fell); then cost may be
    None.
    """

    key: str
    effort: float
    cost: float | None
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    spent: NanoUSD = NanoUSD(0)
    refused: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.effort <= 1:
            raise ValueError(
                f"{self.key!r} was measured with effort {self.effort}, expected 0 < effort <= 1"
            )
        if self.refused is None and (self.cost is None or not 0 < self.cost < math.inf):
            raise ValueError(f"{self.key!r} costs {self.cost}, expected dollars above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """effort: full measurements that may be spent altogether; dollars: or None for no limit."""

    effort: float
    dollars: NanoUSD | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Measure this candidate with this effort."""

    key: str
    effort: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasible:
    """A measured candidate inside the SLO; cost: dollars per million tokens, 90 % interval."""

    key: str
    cost: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """best: None when nothing feasible was measured. sure: probability (a lower bound) that no
    candidate is cheaper than best by more than `close`. feasible: cheapest first."""

    best: str | None
    sure: float
    feasible: tuple[Feasible, ...]
    rejected: tuple[Rejected, ...]
    effort: float
    dollars: NanoUSD
    stopped: str
