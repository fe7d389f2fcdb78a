"""A rollout as a state machine: a world says what happened, and is told what to do next.

It begins with a canary (one short block of each arm), then compares the arms by the design. It ends
in one of two ways: promoted, with a verified saving and a passed verdict on quality; or returned,
and the first arm gets everything. It ends surely if it is asked: blocks and repeats are bounded. A
turn in which nobody asked says nothing of either arm: it is waited out, as often as it takes.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from meted.optimise.gate import Verdict
from meted.optimise.looks import Looks
from meted.optimise.receipt import ArmTotals, Status
from meted.optimise.rollout_guard import Limits, broken_in_canary, broken_so_far, slo_holds
from meted.optimise.rollout_moves import (
    ArmFailed,
    BlockEnded,
    Cancelled,
    Effect,
    EnterReceipt,
    Event,
    HouseRestarted,
    Promote,
    QualityMeasured,
    Return,
    Route,
)
from meted.optimise.switchback import Arm, Block, Design, paired, saving_at
from meted.predict.estimate import Estimate

CANARY_ORDER = (Arm.FIRST, Arm.SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """What a rollout holds itself to.

    canary_s: seconds of each of the two blocks before the comparison. looks: where it may be
    decided; the last is the end. most_void: how many blocks may come to nothing (a restart, no
    request that counts of those that came) and be repeated.
    """

    design: Design
    looks: Looks
    canary_s: float
    limits: Limits = Limits()
    most_void: int = 8

    def __post_init__(self) -> None:
        if self.looks.at[-1] > self.design.pairs:
            raise ValueError(
                f"the last look is after {self.looks.at[-1]} pairs, and the design has "
                f"{self.design.pairs}; plan the looks within it"
            )
        if not self.canary_s > self.design.washout_s:
            raise ValueError(
                f"the canary's blocks last {self.canary_s} s, expected more than the washout of "
                f"{self.design.washout_s} s"
            )

    @property
    def most_turns(self) -> int:
        """Besides those that are waited out."""
        return len(CANARY_ORDER) + 2 * self.looks.at[-1] + self.most_void


class Phase(StrEnum):
    """How far a rollout is; the last two are ends."""

    CANARY = "canary"
    COMPARING = "comparing"
    PROMOTED = "promoted"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """turn: number of the turn that runs. canary, blocks: what came of the turns that count.

    void: turns that came to nothing. quiet: turns in a row, up to now, in which nobody asked.
    measured: the saving at the last look, None before the first.
    """

    plan: RolloutPlan
    phase: Phase = Phase.CANARY
    turn: int = 0
    void: int = 0
    quiet: int = 0
    canary: tuple[Block, ...] = ()
    blocks: tuple[Block, ...] = ()
    quality: Verdict | None = None
    measured: Estimate | None = None

    @property
    def ended(self) -> bool:
        return self.phase in (Phase.PROMOTED, Phase.RETURNED)

    @property
    def verified(self) -> bool:
        return self.measured is not None and self.measured.low > 0

    @property
    def waiting(self) -> str | None:
        """What it waits for, in words; None where it goes on."""
        if self.ended or not self.quiet:
            return None
        return f"waiting for requests: none came in {self.quiet} turn{'s' * (self.quiet > 1)}"

    @property
    def arm(self) -> Arm:
        """The arm that serves now."""
        match self.phase:
            case Phase.CANARY:
                return CANARY_ORDER[len(self.canary)]
            case Phase.COMPARING:
                return self.plan.design.order()[len(self.blocks)]
            case Phase.PROMOTED:
                return Arm.SECOND
            case Phase.RETURNED:
                return Arm.FIRST
            case _:
                assert_never(self.phase)


Step = tuple[Rollout, tuple[Effect, ...]]


def begin(plan: RolloutPlan) -> Step:
    """A rollout at its first turn."""
    state = Rollout(plan=plan)
    entry = EnterReceipt(
        status=Status.MEASURING, reason=f"compared in {2 * plan.looks.at[-1]} blocks at most"
    )
    return state, (entry, _route(state))


def handle(state: Rollout, event: Event) -> Step:
    """What the rollout becomes by an event, and what is to be done. Pure.

    What comes after the end, or twice, changes nothing.
    """
    if state.ended:
        # A house that comes back must be told again where requests go.
        return state, (_route(state),) if isinstance(event, HouseRestarted) else ()
    match event:
        case BlockEnded():
            return _block_ended(state, event)
        case QualityMeasured():
            return _quality_measured(state, event.verdict)
        case ArmFailed():
            if event.arm is Arm.SECOND:
                return _return(state, Status.FAILED, event.reason)
            return _again(state, f"the first arm failed: {event.reason}")
        case HouseRestarted():
            return _again(state, "the house restarted")
        case Cancelled():
            return _return(state, Status.ROLLED_BACK, event.reason)
        case _:
            assert_never(event)


def _block_ended(state: Rollout, event: BlockEnded) -> Step:
    block = event.block
    if event.turn != state.turn:
        return state, ()
    if block.arm is not state.arm:
        raise ValueError(
            f"turn {event.turn} was of the {state.arm} arm, and its block is of the {block.arm} arm"
        )
    if block.quiet:
        return _next_turn(replace(state, quiet=state.quiet + 1))
    state = replace(state, quiet=0)
    if state.phase is Phase.CANARY:
        return _canary_ended(state, block)
    # An arm that only errs costs nothing that can be compared, and must not be tried again.
    broken = broken_so_far((*state.blocks, block), state.plan.limits)
    if broken is not None:
        return _return(state, broken.status, broken.reason)
    if not block.worked:
        return _again(state, f"turn {state.turn} had no work to compare")
    return _looked(replace(state, blocks=(*state.blocks, block)))


def _canary_ended(state: Rollout, block: Block) -> Step:
    canary = (*state.canary, block)
    broken = broken_in_canary(canary, state.plan.limits)
    if broken is not None:
        return _return(replace(state, canary=canary), broken.status, broken.reason)
    if not block.requests:
        return _again(state, f"turn {state.turn} had no request to judge by")
    state = replace(state, canary=canary)
    if len(state.canary) == len(CANARY_ORDER):
        state = replace(state, phase=Phase.COMPARING)
    return _next_turn(state)


def _looked(state: Rollout) -> Step:
    """After a block: decide if a look is planned here."""
    looks = state.plan.looks
    pairs, odd = divmod(len(state.blocks), 2)
    if odd or pairs not in looks.at:
        return _next_turn(state)
    state = replace(state, measured=saving_at(paired(state.blocks), looks))
    if _may_promote(state):
        return _promote(state)
    measured = state.measured
    assert measured is not None
    if measured.high < 0:
        return _return(state, Status.NOT_THERE, f"it is dearer: {_saving_words(measured)}")
    if pairs < looks.at[-1]:
        return _next_turn(state)
    if not state.verified:
        return _return(
            state, Status.NOT_THERE, f"no saving after {pairs} pairs: {_saving_words(measured)}"
        )
    if state.quality is None:
        return _return(state, Status.ROLLED_BACK, "its quality was not measured until the end")
    return _return(state, Status.SLIPPED_SLO, slo_holds(state.blocks, state.plan.limits).reason)


def _quality_measured(state: Rollout, verdict: Verdict) -> Step:
    state = replace(state, quality=verdict)
    if not verdict.passed:
        return _return(state, Status.SLIPPED_QUALITY, verdict.reason)
    return _promote(state) if _may_promote(state) else (state, ())


def _may_promote(state: Rollout) -> bool:
    return (
        state.verified
        and state.quality is not None
        and state.quality.passed
        and slo_holds(state.blocks, state.plan.limits).passed
    )


def _promote(state: Rollout) -> Step:
    assert state.measured is not None and state.quality is not None
    reason = (
        f"{_saving_words(state.measured)} over {len(state.blocks) // 2} pairs; "
        f"{slo_holds(state.blocks, state.plan.limits).reason}; {state.quality.reason}"
    )
    ended = replace(state, phase=Phase.PROMOTED, turn=state.turn + 1)
    return ended, (_route(ended), Promote(), _entry(state, Status.VERIFIED, reason))


def _return(state: Rollout, status: Status, reason: str) -> Step:
    ended = replace(state, phase=Phase.RETURNED, turn=state.turn + 1)
    return ended, (_route(ended), Return(reason=reason), _entry(state, status, reason))


def _entry(state: Rollout, status: Status, reason: str) -> EnterReceipt:
    first, second = ArmTotals(), ArmTotals()
    for block in state.blocks:
        if block.arm is Arm.FIRST:
            first = first.plus(block.tokens, block.cost)
        else:
            second = second.plus(block.tokens, block.cost)
    return EnterReceipt(
        status=status, reason=reason, measured=state.measured, first=first, second=second
    )


def _again(state: Rollout, why: str) -> Step:
    """The turn came to nothing: repeat it, or give up when that happened too often."""
    state = replace(state, void=state.void + 1)
    if state.void > state.plan.most_void:
        return _return(
            state, Status.ROLLED_BACK, f"{state.void} blocks came to nothing, the last as {why}"
        )
    return _next_turn(state)


def _next_turn(state: Rollout) -> Step:
    state = replace(state, turn=state.turn + 1)
    return state, (_route(state),)


def _route(state: Rollout) -> Route:
    if state.ended:
        return Route(arm=state.arm, turn=state.turn)
    design = state.plan.design
    return Route(
        arm=state.arm,
        turn=state.turn,
        seconds=state.plan.canary_s if state.phase is Phase.CANARY else design.block_s,
        washout_s=design.washout_s,
    )


def _saving_words(saving: Estimate) -> str:
    return (
        f"saves {saving.expected:.1%} ({saving.low:.1%} to {saving.high:.1%} at {saving.level:.0%})"
    )
