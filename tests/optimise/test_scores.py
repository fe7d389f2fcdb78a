"""Scores by document: their intervals cover, and a comparison by document sees small losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.optimise.scores import (
    Accuracy,
    DocumentScore,
    accuracy_drop,
    loss_increase,
    nats_per_token,
)


def documents(
    rng: np.random.Generator, count: int, *, loss: float, between: float
) -> tuple[DocumentScore, ...]:
    """Documents of unequal length, whose tokens are alike within a document."""
    tokens = np.minimum(20 + 200 * rng.pareto(2.5, count), 4_000).astype(int)
    return tuple(
        DocumentScore(
            document=str(number),
            nats=float(size * (loss + rng.normal(0, between)) + rng.normal(0, np.sqrt(size))),
            tokens=int(size),
        )
        for number, size in enumerate(tokens)
    )


def worse(
    rng: np.random.Generator, parent: tuple[DocumentScore, ...], by: float, spread: float
) -> tuple[DocumentScore, ...]:
    return tuple(
        DocumentScore(
            document=one.document,
            nats=one.nats + one.tokens * float(rng.normal(by, spread)),
            tokens=one.tokens,
        )
        for one in parent
    )


def test_the_interval_of_a_mean_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1_000):
        score = nats_per_token(documents(rng, 60, loss=3.0, between=0.4))
        hits += abs(score.mean - 3.0) <= score.half
    assert 0.92 <= hits / 1_000 <= 0.98


def test_the_one_sided_bound_of_an_increase_is_passed_once_in_twenty() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(1_000):
        parent = documents(rng, 60, loss=3.0, between=0.4)
        missed += loss_increase(parent, worse(rng, parent, 0.02, 0.03)).upper < 0.02
    assert 0.025 <= missed / 1_000 <= 0.08


def test_comparing_by_document_is_far_sharper_than_two_means() -> None:
    rng = np.random.default_rng(3)
    parent = documents(rng, 80, loss=3.0, between=0.5)
    variant = worse(rng, parent, 0.02, 0.01)
    assert loss_increase(parent, variant).half < nats_per_token(variant).half / 10


def test_the_same_scores_have_no_increase_and_no_doubt() -> None:
    parent = documents(np.random.default_rng(4), 20, loss=2.0, between=0.3)
    score = loss_increase(parent, tuple(reversed(parent)))
    assert (score.mean, score.upper, score.documents) == (0.0, 0.0, 20)


def test_other_documents_or_other_tokens_are_refused() -> None:
    parent = documents(np.random.default_rng(5), 5, loss=2.0, between=0.3)
    with pytest.raises(ValueError, match="document '4' was scored by one"):
        loss_increase(parent, parent[:4])
    longer = DocumentScore(document="0", nats=1.0, tokens=parent[0].tokens + 1)
    with pytest.raises(ValueError, match="expected the same tokens"):
        loss_increase(parent, (longer, *parent[1:]))
    with pytest.raises(ValueError, match="each document once"):
        loss_increase(parent, (*parent, parent[0]))


def test_one_document_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="expected 2 or more"):
        nats_per_token(documents(np.random.default_rng(6), 1, loss=2.0, between=0.3))


def test_wilsons_interval_is_as_published() -> None:
    """Newcombe 1998, table I: 81 of 263, 95 %: 0.2553 to 0.3662."""
    interval = Accuracy(right=81, asked=263).estimate()
    assert (interval.low, interval.high) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilsons_interval_holds_the_share_and_stays_a_share(right: int, more: int) -> None:
    interval = Accuracy(right=right, asked=right + more).estimate()
    assert 0 <= interval.low <= interval.expected <= interval.high <= 1


def test_the_bound_of_an_accuracy_drop_is_passed_about_once_in_twenty() -> None:
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(2_000):
        hard = rng.random(300)
        parent, variant = hard < 0.72, (hard < 0.70) ^ (rng.random(300) < 0.04)
        truth = 0.72 - (0.70 * 0.96 + 0.30 * 0.04)
        drop = accuracy_drop(parent.tolist(), variant.tolist())
        missed += drop.upper < truth
    assert missed / 2_000 <= 0.065


def test_answers_that_agree_give_a_sharper_bound_than_answers_that_do_not() -> None:
    parent = [number % 4 != 0 for number in range(200)]
    agreeing = [right and number % 50 != 1 for number, right in enumerate(parent)]
    shifted = agreeing[7:] + agreeing[:7]
    assert sum(agreeing) == sum(shifted)
    assert accuracy_drop(parent, agreeing).upper < accuracy_drop(parent, shifted).upper
