from collections import Counter
from dataclasses import replace

import pytest

from meted.domain.job import Method, TrainingSpec
from meted.live.training.search_frame import usual_rates
from meted.live.training.variations import Size, name_of, resolved, variations

LEVERS = ("optimizer", "rate", "rank", "targets", "method", "batch")
SIZE = Size(train_tokens=100_000, steps=40)


def made(
    spec: TrainingSpec, levers: tuple[str, ...], count: int, size: Size = SIZE
) -> dict[str, TrainingSpec]:
    usual = usual_rates()
    plain = resolved(spec, usual, size)
    return variations(spec, plain=plain, levers=levers, count=count, middle=usual, size=size)


def test_the_given_spec_is_the_first_trial_as_it_would_run_by_itself(spec: TrainingSpec) -> None:
    asked = replace(spec, learning_rate=None, steps=None, epochs=3.0)
    name, first = next(iter(made(asked, LEVERS, 20).items()))
    assert first == replace(asked, learning_rate=1e-3, steps=40, epochs=None)
    assert name == name_of(first)


def test_trials_differ_and_values_are_about_equally_frequent(spec: TrainingSpec) -> None:
    trials = list(made(spec, ("optimizer", "rank"), 25).values())
    assert len({name_of(one) for one in trials}) == len(trials) >= 18
    ranks = Counter(one.lora_rank for one in trials)
    assert ranks.keys() == {4, 16, 64}
    assert max(ranks.values()) - min(ranks.values()) <= 3


def test_only_the_levers_asked_for_move(spec: TrainingSpec) -> None:
    trials = made(spec, ("rate",), 10).values()
    assert sorted(one.learning_rate or 0 for one in trials) == [0.00333, 0.01, 0.03]
    assert len({replace(one, learning_rate=None) for one in trials}) == 1


def test_every_trial_has_the_tokens_of_the_job(spec: TrainingSpec) -> None:
    for one in made(spec, LEVERS, 200).values():
        assert (one.steps or 0) * (one.batch_tokens or SIZE.train_tokens) == pytest.approx(
            40 * 64, rel=0.02
        )


@pytest.mark.parametrize(("train_tokens", "tried"), [(600, True), (700, False)])
def test_full_batch_descent_is_tried_where_it_makes_steps(
    spec: TrainingSpec, train_tokens: int, tried: bool
) -> None:
    size = Size(train_tokens=train_tokens, steps=40)
    found = {one.optimizer: one for one in made(spec, ("optimizer",), 20, size).values()}
    assert ("gd" in found) is tried
    if tried:
        assert (found["gd"].steps, found["gd"].batch_tokens) == (4, None)


def test_a_full_fine_tune_has_no_ranks(spec: TrainingSpec) -> None:
    full = [one for one in made(spec, LEVERS, 200).values() if one.method is Method.FULL]
    assert len({(one.lora_rank, one.lora_targets) for one in full}) == 1
    rates = usual_rates()
    assert {one.learning_rate for one in full if one.optimizer == "sgd"} <= {
        float(f"{rates[(Method.FULL, 'sgd')] * factor:.3g}") for factor in (1 / 3, 1, 3)
    }
