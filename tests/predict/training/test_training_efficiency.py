"""Efficiency of training: published runs, each predicted by the others, and intervals that fit."""

from functools import cache

import pytest

from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.training_algorithm import TrainingAlgorithm
from meted.predict.estimate import Estimate
from meted.predict.training.efficiency import (
    PRIOR_CENTRE,
    SeenRun,
    doubt_sentence,
    fit_efficiency,
    published_efficiency,
    seen,
)
from meted.predict.training.published_runs import published_runs
from meted.predict.training.step import ideal_training_step

RUNS = seen(published_runs())


@cache
def judged() -> dict[str, tuple[SeenRun, Estimate]]:
    """Each run by factors from the others."""
    return {
        one.run.name: (
            one,
            fit_efficiency([other for other in RUNS if other is not one]).of_run(one),
        )
        for one in RUNS
    }


def inside(names: list[str]) -> float:
    hits = [judged()[name] for name in names]
    return sum(told.low <= one.run.measured <= told.high for one, told in hits) / len(hits)


def test_nominal_90_percent_covers_80_percent_of_runs_that_were_left_out() -> None:
    assert inside([one.run.name for one in RUNS]) >= 0.8
    assert inside([one.run.name for one in RUNS if one.whole]) >= 0.8
    assert inside([one.run.name for one in RUNS if not one.whole]) >= 0.8


def test_a_team_that_was_left_out_is_covered_too() -> None:
    hits = 0
    for family in {one.run.family for one in RUNS}:
        known = fit_efficiency([one for one in RUNS if one.run.family != family])
        for one in (one for one in RUNS if one.run.family == family):
            told = known.of_run(one)
            hits += told.low <= one.run.measured <= told.high
    assert hits / len(RUNS) >= 0.8


@pytest.mark.parametrize(
    "name",
    [
        "llama-2-7b",
        "llama-2-13b",
        "llama-2-70b",
        "llama-3-70b",
        "llama-3.1-70b",
        "llama-3.1-405b",
        "llama-7b",
        "llama-65b",
        "bloom-176b",
    ],
)
def test_published_device_hours_are_inside_an_interval_of_no_more_than_six(name: str) -> None:
    one, told = judged()[name]
    assert told.low <= one.run.measured <= told.high
    assert told.spread < 6


def test_steps_are_predicted_within_a_fifth() -> None:
    for one, told in judged().values():
        if not one.whole:
            assert told.expected == pytest.approx(one.run.measured, rel=0.2)


def test_no_runs_leave_the_prior_and_runs_narrow_it() -> None:
    prior = fit_efficiency([])
    assert prior.factors.compute == pytest.approx(PRIOR_CENTRE.compute)
    some, every = fit_efficiency(RUNS[:2]), fit_efficiency(RUNS)
    assert every.covariance[0][0] < some.covariance[0][0] < prior.covariance[0][0]


def test_a_kind_of_which_no_run_was_seen_is_predicted_with_more_doubt() -> None:
    known = published_efficiency()
    told = []
    for name in ("a100-80gb", "l4", "cpu-core"):
        kind = lookup_device_kind(name)
        ideal = ideal_training_step(
            lookup_architecture("smollm2-135m"), TrainingAlgorithm(global_batch=8), kind
        )
        told.append(known.step_seconds(ideal, name).spread)
    assert told[0] < told[1] < told[2]


def test_a_very_wide_interval_says_so() -> None:
    known = published_efficiency()
    wide = Estimate(low=1, expected=3, high=9)
    assert "factor of 9.0" in doubt_sentence(wide, "a100-80gb", known)
    assert "no published run" in doubt_sentence(wide, "l4", known)
    assert doubt_sentence(Estimate(low=1, expected=1.2, high=1.5), "l4", known) == ""


def test_no_interval_is_faster_than_peak() -> None:
    kind = lookup_device_kind("cpu-core")
    ideal = ideal_training_step(
        lookup_architecture("smollm2-135m"), TrainingAlgorithm(global_batch=8), kind
    )
    told = published_efficiency().step_seconds(ideal, kind.name)
    assert told.low >= ideal.hardware_flops / ideal.peak_flops
    assert told.low < told.expected < told.high
