"""When a trial is judged on its way to a target loss, so that judging stays cheap beside training.

Looks are paid from a share of the training, and lie where the straight line through the last two
says that the target may be met: a loss that falls ever more slowly is not there before. What lies
between two looks is read off the straight line between them, which tells such a loss no lower than
it is. Costs are in one unit of the caller's, e.g. device time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LOOKS_SHARE = 0.25
"""Of the cost of a trial's training that all its looks may cost, if it is trained whole."""
MOST_LOOKS, LEAST_LOOKS = 12, 3
"""On a whole training: no more than these; what a look reads leaves money for so many."""
FORWARD = 0.45
"""Cost of a token that is only judged over that of one that is trained on, adapters of rank 16;
a full training's backward pass costs more, so that judging costs less beside it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A held-out loss of a trial that had cost so much. The base's is at cost 0."""

    cost: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPlan:
    """look: cost of one look. share: of the training that looks may cost. whole: cost of the whole
    training."""

    look: float
    share: float
    whole: float

    def due(self, *, trained: float, until: float, seen: Sequence[Seen], target: float) -> bool:
        """Whether to look now, at cost `trained`; at `until`, the training's next halt, always.

        seen: the base's loss and every look since.
        """
        if trained >= until:
            return True
        last = seen[-1]
        if last.cost == trained:
            return False
        # The look at the halt is paid for before any on the way there.
        here, there = len(seen) * self.look, (len(seen) + 1) * self.look
        if here > self.share * trained or there > self.share * until:
            return False
        apart = self.whole / MOST_LOOKS
        # At a rising rate the line says too late, so it is not believed for long.
        wait = min(max(ahead(seen, target), apart), LEAST_LOOKS * apart)
        return trained >= last.cost + wait


@dataclass(frozen=True, slots=True, kw_only=True)
class LookSize:
    """tokens: of held-out text at each look. confirmed: whether all of it is read where these meet
    the target. share: of the training that is left for looks besides that."""

    tokens: int
    confirmed: bool
    share: float


def look_size(*, held_out: int, job: int, most: int) -> LookSize:
    """How much a look may read. held_out: tokens there are; job: tokens of a whole training; most:
    of a look.

    Confirming reads what a look does not. It is done unless a look would have to read less than
    half of what it otherwise may.
    """
    tokens = LOOKS_SHARE * job / FORWARD
    alone = min(most, int(tokens / LEAST_LOOKS))
    if held_out <= alone:
        return LookSize(tokens=held_out, confirmed=False, share=LOOKS_SHARE)
    beside = min(most, int((tokens - held_out) / (LEAST_LOOKS - 1)))
    if 2 * beside < alone or beside < 1:
        return LookSize(tokens=max(1, alone), confirmed=False, share=LOOKS_SHARE)
    rest = (held_out - beside) * FORWARD / job
    return LookSize(tokens=beside, confirmed=True, share=LOOKS_SHARE - rest)


def ahead(seen: Sequence[Seen], target: float) -> float:
    """What the straight line through the last two losses costs from the last one to the target;
    0 with a single loss, infinite where they do not fall."""
    if len(seen) < 2:
        return 0.0
    before, last = seen[-2], seen[-1]
    fall = before.loss - last.loss
    if not fall > 0:
        return math.inf
    return max(0.0, (last.loss - target) * (last.cost - before.cost) / fall)


def crossing(seen: Sequence[Seen], target: float) -> float | None:
    """The cost at which the loss first met the target, on straight lines; None if it did not."""
    for before, after in pairwise(seen):
        if after.loss <= target:
            if before.loss <= target:
                return before.cost
            part = (before.loss - target) / (before.loss - after.loss)
            return before.cost + (after.cost - before.cost) * (part if math.isfinite(part) else 1.0)
    return None
