"""From a wish to a rollout's second arm, plan and verdict on quality. Pure."""

from dataclasses import replace

from meted.domain.deployment import Deployment, Task
from meted.domain.units import DeploymentName
from meted.live.checkpoints import Checkpoint
from meted.live.lever_doors import RolloutWish
from meted.live.rollout_record import changed
from meted.optimise.gate import UNCHANGED, Verdict
from meted.optimise.looks import planned
from meted.optimise.rollout import RolloutPlan
from meted.optimise.rollout_guard import Limits
from meted.optimise.switchback import Design

SLO_SHARE = 0.95
"""Targets of a deployment are 95th percentiles."""
LONGEST_WASHOUT_S = 15.0
UNKNOWN = Verdict(
    passed=True, reason="its quality is not known, and it was rolled out all the same, as was asked"
)


class QualityError(ValueError):
    """Nobody may serve this instead: what was measured, or what is missing."""


def second_arm(wish: RolloutWish, first: Deployment, name: DeploymentName) -> Deployment:
    """The second arm: the first with what the wish changes."""
    return replace(
        first,
        name=name,
        checkpoint=wish.checkpoint or first.checkpoint,
        settings=wish.settings or first.settings,
        max_batch=wish.max_batch or first.max_batch,
    )


def plan_of(wish: RolloutWish, first: Deployment) -> RolloutPlan:
    """Raises ValueError for lengths and numbers that do not go together."""
    washout = wish.washout_s
    if washout is None:
        washout = min(LONGEST_WASHOUT_S, wish.block_s / 10)
    design = Design(
        seed=wish.seed, blocks=wish.most_blocks, block_s=wish.block_s, washout_s=washout
    )
    generates = first.task is Task.GENERATE
    return RolloutPlan(
        design=design,
        looks=planned(design.pairs),
        canary_s=wish.block_s if wish.canary_s is None else wish.canary_s,
        limits=Limits(
            ttft_share=SLO_SHARE if generates else None,
            tpot_share=SLO_SHARE if generates else None,
        ),
    )


def verdict_on(
    first: Deployment, second: Deployment, checkpoint: Checkpoint | None, *, unknown: bool
) -> Verdict:
    """Whether the second arm's answers are good enough. checkpoint: the second arm's.

    Raises QualityError if it was measured and did not pass, or is not known and `unknown` does not
    say that this is meant.
    """
    if not _touches_answers(first, second):
        return UNCHANGED
    quality = None if checkpoint is None else checkpoint.quality
    if quality is not None and not quality.passed:
        raise QualityError(f"{second.checkpoint} did not pass its gate: {quality.reason}")
    known = quality is not None and quality.parent == first.checkpoint
    if known and not _engine_touches_answers(first, second):
        assert quality is not None
        return Verdict(passed=True, reason=quality.reason)
    if unknown:
        return UNKNOWN
    raise QualityError(
        f"the quality of {second.checkpoint} with these settings was not measured against "
        f"{first.checkpoint}; measure the variant first, or say that it is not known "
        "(quality_unknown, --quality-unknown)"
    )


def check_context(first: int, second: int) -> None:
    """Raises ValueError if requests that the first arm takes would not fit the second.

    first, second: tokens of prompt and answer together.
    """
    if second < first:
        raise ValueError(
            f"it takes {second} tokens of context and the version that serves {first}; a request "
            "that is answered now would be refused"
        )


def _touches_answers(first: Deployment, second: Deployment) -> bool:
    return "checkpoint" in changed(first, second) or _engine_touches_answers(first, second)


def _engine_touches_answers(first: Deployment, second: Deployment) -> bool:
    """Another engine, or keys and values kept with fewer bits, may answer otherwise."""
    return (
        first.settings.engine != second.settings.engine
        or first.settings.cache is not second.settings.cache
    )
