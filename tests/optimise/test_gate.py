"""Quality may not fall: a variant passes only if the whole bound is inside the floor."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.optimise.gate import LEAST_DOCUMENTS, Floor, Measured, judge
from meted.optimise.scores import Score, accuracy_drop

SCORE = Score(mean=0.010, half=0.006, upper=0.015, n=40_000, documents=64)


@given(st.floats(0, 0.05), st.floats(0, 0.05), st.floats(0, 0.05))
def test_a_mean_inside_does_not_pass_when_its_bound_is_outside(
    mean: float, above: float, limit: float
) -> None:
    score = replace(SCORE, mean=mean, upper=mean + above)
    verdict = judge(Floor(most_loss_increase=limit), Measured(loss_increase=score))
    assert verdict.passed is (mean + above <= limit)


def test_the_reason_holds_the_numbers() -> None:
    verdict = judge(Floor(most_loss_increase=0.012), Measured(loss_increase=SCORE))
    assert verdict.reason == (
        "loss increase 0.01 nats per token, at most 0.015 at 95% > 0.012 "
        "(64 documents, 40000 tokens)"
    )


def test_what_is_asked_and_was_not_measured_fails() -> None:
    floor = Floor(most_loss_increase=0.02, most_accuracy_drop=0.01, most_kl=0.05)
    verdict = judge(floor, Measured(loss_increase=SCORE))
    assert not verdict.passed
    assert "accuracy was not measured" in verdict.reason
    assert "KL to the parent was not measured" in verdict.reason
    assert "loss increase" not in verdict.reason


def test_every_limit_must_hold() -> None:
    right = [True] * 950 + [False] * 50
    lost = [True] * 900 + [False] * 100
    floor = Floor(most_loss_increase=0.02, most_accuracy_drop=0.02)
    same = judge(floor, Measured(loss_increase=SCORE, accuracy_drop=accuracy_drop(right, right)))
    assert same.passed
    fallen = judge(floor, Measured(loss_increase=SCORE, accuracy_drop=accuracy_drop(right, lost)))
    assert not fallen.passed
    assert "accuracy 90.00% after 95.00%" in fallen.reason


def test_few_documents_are_no_proof() -> None:
    score = replace(SCORE, documents=LEAST_DOCUMENTS - 1)
    verdict = judge(Floor(most_kl=1.0), Measured(kl=score))
    assert not verdict.passed
    assert f"expected {LEAST_DOCUMENTS} or more" in verdict.reason


def test_a_floor_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="asks for nothing"):
        Floor()
    with pytest.raises(ValueError, match="expected 0 or more"):
        Floor(most_kl=-0.1)
