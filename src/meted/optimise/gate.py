"""Quality may not fall: a variant passes only if its whole one-sided bound is inside the floor."""

from collections.abc import Iterator
from dataclasses import dataclass

from meted.optimise.scores import AccuracyDrop, Score

LEAST_DOCUMENTS = 20
"""Below this, Student's interval over documents of unequal length promises more than it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """How much quality may be given up; None where nothing is asked.

    most_loss_increase: nats per token over the parent. most_accuracy_drop: share of right answers
    lost, 0.01 is one in a hundred. most_kl: nats per token from the parent's distribution.
    """

    most_loss_increase: float | None = None
    most_accuracy_drop: float | None = None
    most_kl: float | None = None

    def __post_init__(self) -> None:
        limits = (self.most_loss_increase, self.most_accuracy_drop, self.most_kl)
        if all(one is None for one in limits):
            raise ValueError("the floor asks for nothing, expected a limit on loss, accuracy or KL")
        for one in limits:
            if one is not None and not one >= 0:
                raise ValueError(f"a limit of the floor is {one}, expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a variant against its parent; None where it was not."""

    loss_increase: Score | None = None
    accuracy_drop: AccuracyDrop | None = None
    kl: Score | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a variant may serve in its parent's place; the reason holds the numbers."""

    passed: bool
    reason: str


UNCHANGED = Verdict(passed=True, reason="the weights are the same, so that answers are too")
"""The verdict on a lever that touches no weights, such as a batch size."""


def judge(floor: Floor, measured: Measured) -> Verdict:
    """Passed when every bound that the floor asks for was measured and lies inside."""
    checks = tuple(_checks(floor, measured))
    failed = [sentence for passed, sentence in checks if not passed]
    return Verdict(
        passed=not failed, reason="; ".join(failed or [sentence for _, sentence in checks])
    )


def _checks(floor: Floor, measured: Measured) -> Iterator[tuple[bool, str]]:
    if floor.most_loss_increase is not None:
        yield _within("loss increase", measured.loss_increase, floor.most_loss_increase)
    if floor.most_accuracy_drop is not None:
        yield _drop_within(measured.accuracy_drop, floor.most_accuracy_drop)
    if floor.most_kl is not None:
        yield _within("KL to the parent", measured.kl, floor.most_kl)


def _within(name: str, score: Score | None, limit: float) -> tuple[bool, str]:
    if score is None:
        return False, f"{name} was not measured, and at most {limit:.4g} nats per token is asked"
    if score.documents < LEAST_DOCUMENTS:
        return False, (
            f"{name} was measured on {score.documents} documents, "
            f"expected {LEAST_DOCUMENTS} or more"
        )
    passed = score.upper <= limit
    return passed, (
        f"{name} {score.mean:.4g} nats per token, at most {score.upper:.4g} at "
        f"{score.level:.0%} {'<=' if passed else '>'} {limit:.4g} "
        f"({score.documents} documents, {score.n} tokens)"
    )


def _drop_within(drop: AccuracyDrop | None, limit: float) -> tuple[bool, str]:
    if drop is None:
        return False, f"accuracy was not measured, and a drop of at most {limit:.2%} is asked"
    passed = drop.upper <= limit
    return passed, (
        f"accuracy {drop.variant.share:.2%} after {drop.parent.share:.2%}, a drop of at most "
        f"{drop.upper:.2%} at {drop.level:.0%} {'<=' if passed else '>'} {limit:.2%} "
        f"({drop.parent.asked} questions)"
    )
