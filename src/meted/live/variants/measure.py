"""A variant against its parent on the same text, block by block in one pass: no logits are kept."""
# pyright: reportUnknownMemberType=false

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meted.live.checkpoints.quality import TextQuality
from meted.live.variants.networks import Network
from meted.live.variants.text import CONTEXT_TOKENS, Block, Question
from meted.optimise.scores import DocumentScore, Score, loss_increase, nats_per_token
from meted.predict.estimate import Estimate

Tick = Callable[[], None]


@dataclass(slots=True)
class _Sums:
    """Nats of loss and KL, and counts, over the tokens of one document."""

    tokens: int = 0
    parent: float = 0.0
    variant: float = 0.0
    kl: float = 0.0
    same: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Scores of a variant on one text; parent and variant by document, for whoever pairs them."""

    loss: Score
    increase: Score
    kl: Score
    same_top: Score
    parent_loss: Score

    def quality(self, text: str) -> TextQuality:
        """The scores as they are kept."""
        return TextQuality(
            text=text,
            documents=self.loss.documents,
            tokens=self.loss.n,
            loss=self.loss.estimate(),
            loss_increase=self.increase.estimate(),
            kl=self.kl.estimate(),
            same_top=_share(self.same_top),
        )


def compare(parent: Network, variant: Network, blocks: Sequence[Block], tick: Tick) -> Comparison:
    """Read each block with both. Raises ValueError below two documents."""
    sums: defaultdict[str, _Sums] = defaultdict(_Sums)
    for block in blocks:
        _add(sums[block.document], parent, variant, block)
        tick()
    before, after, kl, same = (
        [
            DocumentScore(document=document, nats=nats(one), tokens=one.tokens)
            for document, one in sums.items()
        ]
        for nats in _READINGS
    )
    return Comparison(
        loss=nats_per_token(after),
        increase=loss_increase(before, after),
        kl=nats_per_token(kl),
        same_top=nats_per_token(same),
        parent_loss=nats_per_token(before),
    )


_READINGS: tuple[Callable[[_Sums], float], ...] = (
    lambda one: one.parent,
    lambda one: one.variant,
    lambda one: one.kl,
    lambda one: float(one.same),
)


def _add(sums: _Sums, parent: Network, variant: Network, block: Block) -> None:
    targets = torch.from_numpy(block.ids[1:].astype(np.int64))[:, None]
    p = _log_probabilities(parent, block)
    q = _log_probabilities(variant, block)
    sums.tokens += len(targets)
    sums.parent -= float(p.gather(1, targets).double().sum())
    sums.variant -= float(q.gather(1, targets).double().sum())
    sums.same += int((p.argmax(1) == q.argmax(1)).sum())
    # KL(parent, variant), over the whole vocabulary; in place, for these are large.
    q.neg_().add_(p)
    sums.kl += float(p.exp_().mul_(q).sum(1).double().sum())


def _log_probabilities(network: Network, block: Block) -> Tensor:
    return torch.log_softmax(network.logits(block.ids[None, :])[0, :-1].float(), dim=-1)


def answers(network: Network, questions: Sequence[Question], tick: Tick) -> list[bool]:
    """Which questions are answered rightly: the true passage has the highest mean log likelihood a
    token."""
    right: list[bool] = []
    for question in questions:
        logits = network.logits(question.rows)[:, CONTEXT_TOKENS - 1 : -1].float()
        targets = torch.from_numpy(question.rows[:, CONTEXT_TOKENS:].astype(np.int64))
        likelihoods = torch.log_softmax(logits, dim=-1).gather(2, targets[..., None]).mean((1, 2))
        right.append(int(likelihoods.argmax()) == question.right)
        tick()
    return right


def _share(score: Score) -> Estimate:
    """A mean of zeros and ones, whose interval ends where shares end."""
    found = score.estimate()
    return Estimate(
        low=max(0.0, found.low),
        expected=found.expected,
        high=min(1.0, found.high),
        level=found.level,
    )
