"""What may happen to a rollout, and what it may want done."""

from dataclasses import dataclass

from meted.optimise.gate import Verdict
from meted.optimise.receipt import ArmTotals, Status
from meted.optimise.switchback import Arm, Block
from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEnded:
    """A turn's time is over; turn: as its Route said."""

    turn: int
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasured:
    """The gate has judged the second arm."""

    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFailed:
    """An arm's replicas cannot serve; reason is a sentence."""

    arm: Arm
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseRestarted:
    """The house was down; the turn that ran is void."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """A user wants the first arm back."""

    reason: str


Event = BlockEnded | QualityMeasured | ArmFailed | HouseRestarted | Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Send all requests to this arm: for `seconds`, of which the first `washout_s` count for
    nothing, and then say BlockEnded with this turn; or from now on, where seconds is None."""

    arm: Arm
    turn: int
    seconds: float | None = None
    washout_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """The second arm is the deployment from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """The second arm is taken away; reason: why, with numbers."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterReceipt:
    """Move the rollout's receipt. first, second: what the compared blocks served and cost."""

    status: Status
    reason: str
    measured: Estimate | None = None
    first: ArmTotals = ArmTotals()
    second: ArmTotals = ArmTotals()


Effect = Route | Promote | Return | EnterReceipt
