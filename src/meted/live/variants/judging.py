"""A variant before the gate: on the user's text, and on the text of the fine-tune that it carries.

A quantisation can erase a fine-tune and lose nothing on other text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meted.live.checkpoints import Checkpoint
from meted.live.checkpoints.quality import FineTuneKept, Quality
from meted.live.training.data import Ids
from meted.live.training.publish import held_out_rows_of
from meted.live.variants.making import Begin
from meted.live.variants.measure import Comparison, answers, compare
from meted.live.variants.networks import open_network
from meted.live.variants.text import Block, JudgingText
from meted.optimise.gate import LEAST_DOCUMENTS, Floor, Measured, Verdict, judge
from meted.optimise.scores import Accuracy, accuracy_drop

MOST_GAIN_LOST = 0.2
"""Share of what a fine-tune had won that a variant may give up on the fine-tune's own text."""
LEAST_ROW_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnText:
    """A fine-tune's held-out text in blocks, and what the fine-tune won on it, nats per token."""

    blocks: tuple[Block, ...]
    gain: float


class Judge:
    """Compares variants with one reference on the same text."""

    def __init__(
        self,
        *,
        reference: Checkpoint,
        text: JudgingText,
        floor: Floor,
        threads: int,
        begin: Begin,
    ) -> None:
        self._reference = reference
        self._text = text
        self._floor = floor
        self._threads = threads
        self._begin = begin
        self._own = own_text(reference)
        self._answers: list[bool] | None = None

    def judge(self, folder: Path) -> Quality:
        """Measure the variant in `folder`, and the verdict on it."""
        parent = open_network(self._reference.folder, threads=self._threads)
        variant = open_network(folder, threads=self._threads)
        text = self._text
        tick = self._begin("comparing with the parent", len(text.blocks))
        general = compare(parent, variant, text.blocks, tick)
        if self._answers is None:
            tick = self._begin("asking the parent", len(text.questions))
            self._answers = answers(parent, text.questions, tick)
        tick = self._begin("asking", len(text.questions))
        answered = answers(variant, text.questions, tick)
        drop = accuracy_drop(self._answers, answered)
        verdict = judge(
            self._floor,
            Measured(loss_increase=general.increase, accuracy_drop=drop, kl=general.kl),
        )
        kept = None
        if self._own is not None:
            tick = self._begin("comparing on the fine-tune's text", len(self._own.blocks))
            own = compare(parent, variant, self._own.blocks, tick)
            kept = FineTuneKept(
                gain=self._own.gain,
                lost=own.increase.mean / self._own.gain if self._own.gain > 0 else 0.0,
                quality=own.quality(f"held-out text of {self._reference.name}"),
            )
            verdict = _both(verdict, judge_fine_tune(self._floor, own, self._own.gain))
        return Quality(
            parent=self._reference.name,
            text=general.quality(text.source),
            accuracy=Accuracy(right=sum(answered), asked=len(answered)).estimate(),
            parent_accuracy=Accuracy(right=sum(self._answers), asked=len(answered)).estimate(),
            questions=len(answered),
            passed=verdict.passed,
            reason=verdict.reason,
            fine_tune=kept,
        )


def own_text(checkpoint: Checkpoint) -> OwnText | None:
    """The text that a fine-tuned checkpoint was judged on; None if it is not fine-tuned."""
    rows = held_out_rows_of(checkpoint)
    losses = checkpoint.held_out
    if rows is None or not {"before", "converted"} <= losses.keys():
        return None
    return OwnText(blocks=blocks_of_rows(rows), gain=losses["before"] - losses["converted"])


def blocks_of_rows(rows: Ids) -> tuple[Block, ...]:
    """Each row as a document, in halves until there are enough for an interval."""
    pieces: Sequence[Ids] = list(rows)
    while len(pieces) < LEAST_DOCUMENTS and len(pieces[0]) >= 2 * LEAST_ROW_TOKENS:
        middle = len(pieces[0]) // 2
        pieces = [half for one in pieces for half in (one[:middle], one[middle:])]
    return tuple(Block(document=str(number), ids=ids) for number, ids in enumerate(pieces))


def judge_fine_tune(floor: Floor, own: Comparison, gain: float) -> Verdict:
    """Whether enough of a fine-tune's gain is left, and no more lost than elsewhere."""
    limit = max(0.0, gain) * MOST_GAIN_LOST
    if floor.most_loss_increase is not None:
        limit = min(limit, floor.most_loss_increase)
    found = judge(Floor(most_loss_increase=limit), Measured(loss_increase=own.increase))
    return Verdict(
        passed=found.passed,
        reason=f"on the fine-tune's own text, where it won {gain:.4g}: {found.reason}",
    )


def _both(first: Verdict, second: Verdict) -> Verdict:
    if first.passed and second.passed:
        return Verdict(passed=True, reason=f"{first.reason}; {second.reason}")
    failed = [one.reason for one in (first, second) if not one.passed]
    return Verdict(passed=False, reason="; ".join(failed))
