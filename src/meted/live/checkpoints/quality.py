"""What a variant's measurement left: its numbers with intervals, and the verdict on them."""

from dataclasses import dataclass

from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuality:
    """A checkpoint on one held-out text, alone and against its parent.

    loss, loss_increase and kl are nats per token; same_top is the share of tokens at which both
    think the same token likeliest. Intervals are over documents.
    """

    text: str
    documents: int
    tokens: int
    loss: Estimate
    loss_increase: Estimate
    kl: Estimate
    same_top: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneKept:
    """What is left of a fine-tune, on its own held-out text: losses in nats per token.

    gain: what the fine-tune had won as it was served. lost: how much of that the variant gave up.
    """

    gain: float
    lost: float
    quality: TextQuality


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """All that was measured of a variant. parent: whom it was compared with.

    accuracy: share of questions in which the right continuation of four was likeliest;
    parent_accuracy: the parent's on the same. reason: the verdict's, with the numbers.
    """

    parent: str
    text: TextQuality
    accuracy: Estimate
    parent_accuracy: Estimate
    questions: int
    passed: bool
    reason: str
    fine_tune: FineTuneKept | None = None
