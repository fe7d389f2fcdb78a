"""What held-out text says of a checkpoint: scores by document, alone and against its parent.

Tokens of one document resemble each other, so documents are what is counted: a statistic per token
is a ratio of sums over documents, and its deviation comes from documents (Cochran 1977, ch. 6.17).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meted.optimise.quantiles import (
    jackknife_deviation,
    normal_quantile,
    student_quantile,
    two_sided,
    wilson,
)
from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentScore:
    """Nats (of loss, or of KL to the parent) summed over the scored tokens of one document."""

    document: str
    nats: float
    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1 or not math.isfinite(self.nats):
            raise ValueError(
                f"document {self.document!r} has {self.nats} nats over {self.tokens} tokens, "
                "expected a finite sum over one token or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Mean per token, half of its two-sided interval at `level`, one-sided upper bound at the same
    level, scored tokens n, and the documents that they come from."""

    mean: float
    half: float
    upper: float
    n: int
    documents: int
    level: float = 0.95

    def estimate(self) -> Estimate:
        return Estimate(
            low=self.mean - self.half,
            expected=self.mean,
            high=self.mean + self.half,
            level=self.level,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The share of right answers, with Wilson's interval."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked

    def estimate(self, level: float = 0.95) -> Estimate:
        low, high = wilson(self.right, self.asked, normal_quantile(two_sided(level)))
        return Estimate(low=low, expected=self.share, high=high, level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyDrop:
    """Parent's share of right answers less the variant's on the same questions; upper: one-sided
    bound at `level`."""

    parent: Accuracy
    variant: Accuracy
    upper: float
    level: float = 0.95

    @property
    def mean(self) -> float:
        return self.parent.share - self.variant.share


def nats_per_token(documents: Sequence[DocumentScore], *, level: float = 0.95) -> Score:
    """Loss (or KL) per token over documents. Raises ValueError below two documents."""
    return _per_token(
        np.array([one.nats for one in documents], dtype=np.float64),
        np.array([one.tokens for one in documents], dtype=np.float64),
        level,
    )


def loss_increase(
    parent: Sequence[DocumentScore], variant: Sequence[DocumentScore], *, level: float = 0.95
) -> Score:
    """Variant's loss less the parent's, nats per token, compared document by document.

    Raises ValueError unless both scored the same tokens of the same documents, each once.
    """
    before, after = _by_name(parent), _by_name(variant)
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        raise ValueError(
            f"document {odd[0]!r} was scored by one of parent and variant only; score the same text"
        )
    names = sorted(before)
    for name in names:
        if before[name].tokens != after[name].tokens:
            raise ValueError(
                f"document {name!r} has {before[name].tokens} tokens for the parent and "
                f"{after[name].tokens} for the variant, expected the same tokens"
            )
    return _per_token(
        np.array([after[name].nats - before[name].nats for name in names], dtype=np.float64),
        np.array([before[name].tokens for name in names], dtype=np.float64),
        level,
    )


def accuracy_drop(
    parent: Sequence[bool], variant: Sequence[bool], *, level: float = 0.95
) -> AccuracyDrop:
    """How much of the accuracy is lost on the same questions, in the same order.

    The bound is Newcombe's for paired shares (1998, method 10): Wilson's intervals of both, and the
    correlation between them. Raises ValueError if the questions are not as many, or none.
    """
    if len(parent) != len(variant) or not parent:
        raise ValueError(
            f"parent answered {len(parent)} questions and the variant {len(variant)}, "
            "expected as many, and one or more"
        )
    n, z = len(parent), normal_quantile(level)
    before, after = sum(parent), sum(variant)
    low = wilson(after, n, z)[0]
    high = wilson(before, n, z)[1]
    up, down = high - before / n, after / n - low
    spread = up * up - 2 * _correlation(parent, variant) * up * down + down * down
    return AccuracyDrop(
        parent=Accuracy(right=before, asked=n),
        variant=Accuracy(right=after, asked=n),
        upper=(before - after) / n + math.sqrt(max(0.0, spread)),
        level=level,
    )


def _per_token(nats: NDArray[np.float64], tokens: NDArray[np.float64], level: float) -> Score:
    count = len(nats)
    if count < 2:
        raise ValueError(f"{count} document was scored, expected 2 or more for an interval")
    total = float(tokens.sum())
    mean = float(nats.sum()) / total
    # A jackknife, as one long document weighs more than the linear formula sees.
    deviation = jackknife_deviation((nats.sum() - nats) / (total - tokens))
    return Score(
        mean=mean,
        half=student_quantile(two_sided(level), count - 1) * deviation,
        upper=mean + student_quantile(level, count - 1) * deviation,
        n=int(total),
        documents=count,
        level=level,
    )


def _by_name(documents: Sequence[DocumentScore]) -> Mapping[str, DocumentScore]:
    named = {one.document: one for one in documents}
    if len(named) != len(documents):
        raise ValueError(
            f"{len(documents)} scores name {len(named)} documents, expected each document once"
        )
    return named


def _correlation(parent: Sequence[bool], variant: Sequence[bool]) -> float:
    """Phi of the two answers; Newcombe's correction keeps it from claiming too much."""
    n = len(parent)
    both = sum(one and other for one, other in zip(parent, variant, strict=True))
    before, after = sum(parent), sum(variant)
    scale = before * (n - before) * after * (n - after)
    if not scale:
        return 0.0
    agreement = both * (n - before - after + both) - (before - both) * (after - both)
    if agreement > 0:
        agreement = max(0.0, agreement - n / 2)
    return agreement / math.sqrt(scale)
