"""The numbers of a comparison against what torch says of the same logits."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from meted.live.training.data import Ids
from meted.live.variants.measure import answers, compare
from meted.live.variants.text import CHOICE_TOKENS, CONTEXT_TOKENS, Block, Question

torch.set_num_threads(1)
VOCABULARY = 50


class Counting:
    """Expects each token to be followed by the next number, as sure as it is sharp."""

    def __init__(self, sharp: float) -> None:
        self._sharp = sharp

    def logits(self, ids: Ids) -> Tensor:
        following = torch.from_numpy((ids.astype(np.int64) + 1) % VOCABULARY)
        noise = torch.from_numpy(np.sin(np.arange(VOCABULARY) * 1.7)).float()
        return functional.one_hot(following, VOCABULARY).float() * self._sharp + noise


def blocks(count: int) -> list[Block]:
    rng = np.random.default_rng(5)
    return [
        Block(document=f"d{number // 2}", ids=rng.integers(0, VOCABULARY, 20).astype(np.int32))
        for number in range(count)
    ]


def test_a_network_against_itself_differs_in_nothing() -> None:
    found = compare(Counting(2.0), Counting(2.0), blocks(8), lambda: None)
    assert found.increase.mean == 0 and found.increase.half == 0
    assert found.kl.mean == 0
    assert (found.same_top.mean, found.same_top.half) == (1.0, 0.0)
    assert (found.loss.documents, found.loss.n) == (4, 8 * 19)


def test_loss_and_divergence_are_torch_own_over_all_tokens() -> None:
    parent, variant, text = Counting(2.0), Counting(0.5), blocks(8)
    ticks: list[int] = []
    found = compare(parent, variant, text, lambda: ticks.append(1))
    ids = np.stack([one.ids for one in text])
    p, q = parent.logits(ids)[:, :-1].flatten(0, 1), variant.logits(ids)[:, :-1].flatten(0, 1)
    targets = torch.from_numpy(ids[:, 1:].astype(np.int64)).flatten()
    loss = functional.cross_entropy(q, targets)
    divergence = functional.kl_div(
        q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert found.loss.mean == pytest.approx(float(loss), rel=1e-5)
    assert found.increase.mean == pytest.approx(
        float(loss - functional.cross_entropy(p, targets)), abs=1e-5
    )
    assert found.kl.mean == pytest.approx(float(divergence), rel=1e-4)
    assert found.same_top.mean == pytest.approx(float((p.argmax(1) == q.argmax(1)).float().mean()))
    assert len(ticks) == 8


def test_who_counts_finds_the_passage_that_counts_on_and_its_opposite_never_does() -> None:
    count = np.arange(CONTEXT_TOKENS + CHOICE_TOKENS, dtype=np.int32) % VOCABULARY
    wrong = count.copy()
    wrong[CONTEXT_TOKENS:] = 7
    questions = [
        Question(rows=np.stack([wrong, count, wrong, wrong]), right=1),
        Question(rows=np.stack([wrong, wrong, wrong, count]), right=3),
    ]
    assert answers(Counting(5.0), questions, lambda: None) == [True, True]
    assert answers(Counting(-5.0), questions, lambda: None) == [False, False]
