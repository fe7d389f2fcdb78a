"""What ends a rollout before its time: errors of the second arm, or an SLO that it breaks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meted.optimise.gate import Verdict
from meted.optimise.quantiles import wilson
from meted.optimise.receipt import Status
from meted.optimise.switchback import LEAST_PAIRS, Arm, Block, attainment_change, paired

CANARY_Z = 1.645
"""One-sided 95 %: a canary that is turned away by chance costs a candidate, not a user."""
GUARD_Z = 3.0
"""One-sided 99.9 %, as the guard looks after every block."""
GUARD_LEVEL = 0.998
GROSS = 0.2
"""Before there are pairs to tell a burst from a slower arm, an attainment that falls short by more
than this ends a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """ttft_share, tpot_share: the attainment that the SLO asks for, None where it asks nothing.

    most_attainment_drop: how much less than the first arm's is taken for no change where the first
    arm misses its SLO itself. most_error_share: of requests that the second arm may fail.
    """

    ttft_share: float | None = None
    tpot_share: float | None = None
    most_attainment_drop: float = 0.01
    most_error_share: float = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """How a rollout must end, and why."""

    status: Status
    reason: str


def broken_in_canary(blocks: Sequence[Block], limits: Limits) -> Broken | None:
    """Any share of errors above the limit and the first arm's ends it, and so does an SLO that is
    missed where the first arm keeps it."""
    return _failing(blocks, limits, 0.0) or _slipping(blocks, limits, CANARY_Z)


def broken_so_far(blocks: Sequence[Block], limits: Limits) -> Broken | None:
    """As in the canary but beyond doubt, over all blocks so far, as it is asked after each."""
    failing = _failing(blocks, limits, GUARD_Z)
    if failing is not None:
        return failing
    pairs = paired(blocks)
    if len(pairs) < LEAST_PAIRS:
        return _slipping(blocks, limits, GUARD_Z, GROSS)
    slipping = _slipping(blocks, limits, GUARD_Z)
    if slipping is None:
        return None
    # Requests of a burst miss together: only pairs tell a burst from a slower arm.
    worse = any(
        attainment_change(pairs, met, level=GUARD_LEVEL).high < 0 for _, _, met in _targets(limits)
    )
    return slipping if worse else None


def slo_holds(blocks: Sequence[Block], limits: Limits) -> Verdict:
    """Whether the second arm keeps the SLO, or is no worse than the first where that misses it."""
    pairs = paired(blocks)
    passed, sentences = True, ["no SLO is asked for"]
    for number, (name, target, met) in enumerate(_targets(limits)):
        share = _share(blocks, Arm.SECOND, met)
        change = attainment_change(pairs, met)
        holds = share >= target or change.low >= -limits.most_attainment_drop
        passed = passed and holds
        sentences[number:] = [
            f"{name} was met for {share:.2%} of requests, asked {target:.2%}, "
            f"{change.expected:+.2%} ({change.low:+.2%} to {change.high:+.2%}) to the first arm"
        ]
    return Verdict(passed=passed, reason="; ".join(sentences))


Target = tuple[str, float, Callable[[Block], int]]


def _targets(limits: Limits) -> Iterator[Target]:
    if limits.ttft_share is not None:
        yield "TTFT", limits.ttft_share, lambda block: block.ttft_met
    if limits.tpot_share is not None:
        yield "TPOT", limits.tpot_share, lambda block: block.tpot_met


def _failing(blocks: Sequence[Block], limits: Limits, z: float) -> Broken | None:
    asked, errors = _count(blocks, Arm.SECOND, lambda block: block.errors)
    if not asked or not errors:
        return None
    allowed = max(limits.most_error_share, _share(blocks, Arm.FIRST, lambda block: block.errors))
    if wilson(errors, asked, z)[0] <= allowed:
        return None
    return Broken(
        status=Status.FAILED,
        reason=f"{errors} of {asked} requests failed, {errors / asked:.2%} > {allowed:.2%}",
    )


def _slipping(
    blocks: Sequence[Block], limits: Limits, z: float, margin: float = 0.0
) -> Broken | None:
    for name, target, met in _targets(limits):
        asked, good = _count(blocks, Arm.SECOND, met)
        if not asked or not _count(blocks, Arm.FIRST, met)[0]:
            continue
        first = _share(blocks, Arm.FIRST, met)
        if wilson(good, asked, z)[1] < min(target, first) - margin:
            return Broken(
                status=Status.SLIPPED_SLO,
                reason=f"{name} was met for {good / asked:.2%} of {asked} requests, "
                f"asked {target:.2%}, and {first:.2%} in the first arm",
            )
    return None


def _count(blocks: Sequence[Block], arm: Arm, what: Callable[[Block], int]) -> tuple[int, int]:
    """Requests of an arm, and how many of them count."""
    mine = [block for block in blocks if block.arm is arm]
    return sum(block.requests for block in mine), sum(what(block) for block in mine)


def _share(blocks: Sequence[Block], arm: Arm, what: Callable[[Block], int]) -> float:
    asked, counted = _count(blocks, arm, what)
    return counted / asked if asked else 0.0
