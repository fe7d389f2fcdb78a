"""The second gate: on the text of the fine-tune that a variant carries."""

import numpy as np
import pytest

from meted.live.variants.judging import blocks_of_rows, judge_fine_tune
from meted.live.variants.measure import Comparison
from meted.optimise.gate import LEAST_DOCUMENTS, Floor
from meted.optimise.scores import Score

FLOOR = Floor(most_loss_increase=0.02)


def comparison(increase: float, *, half: float = 0.001) -> Comparison:
    score = Score(mean=increase, half=half, upper=increase + half, n=8000, documents=32)
    return Comparison(loss=score, increase=score, kl=score, same_top=score, parent_loss=score)


def test_a_loss_that_is_small_beside_the_gain_passes() -> None:
    verdict = judge_fine_tune(FLOOR, comparison(0.015), gain=0.3)
    assert verdict.passed and "where it won 0.3" in verdict.reason


def test_a_loss_inside_the_floor_that_eats_the_gain_is_rejected() -> None:
    assert judge_fine_tune(FLOOR, comparison(0.015), gain=0.3).passed
    assert not judge_fine_tune(FLOOR, comparison(0.015), gain=0.04).passed


def test_a_large_gain_does_not_excuse_more_than_the_floor() -> None:
    assert not judge_fine_tune(FLOOR, comparison(0.05), gain=2.0).passed


def test_a_fine_tune_that_won_nothing_has_nothing_to_give_up() -> None:
    assert not judge_fine_tune(FLOOR, comparison(0.005), gain=-0.1).passed


@pytest.mark.parametrize(("rows", "tokens"), [(8, 256), (32, 256), (3, 512)])
def test_there_are_blocks_enough_for_an_interval_and_no_token_is_lost(
    rows: int, tokens: int
) -> None:
    text = np.arange(rows * tokens, dtype=np.int32).reshape(rows, tokens)
    blocks = blocks_of_rows(text)
    assert len({one.document for one in blocks}) == len(blocks) >= LEAST_DOCUMENTS
    assert np.array_equal(np.sort(np.concatenate([one.ids for one in blocks])), text.ravel())
