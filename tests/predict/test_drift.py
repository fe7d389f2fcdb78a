"""A fit of step times narrows with steps, stays silent in noise, and alarms when steps change."""

from dataclasses import replace

import numpy as np
import pytest

from meted.predict.drift import BLOCK, Drift, DriftDetector
from meted.predict.step_time import PRIOR, StepCost, StepTimeFit, StepWork, scaled
from meted.predict.watched_fit import AFTER_DRIFT, WatchedFit

TRUE = StepCost(fixed=14_000, prefill=290, decode=1_600, context=3)


def some_work(rng: np.random.Generator) -> StepWork:
    decode = int(rng.integers(1, 9))
    return StepWork(
        prefill_tokens=int(rng.choice([0, 0, 0, 40, 256])),
        decode_tokens=decode,
        context_tokens=decode * int(rng.integers(30, 800)),
    )


def noise(rng: np.random.Generator) -> float:
    """5 % of log-normal noise, and one step in twenty takes up to ten times as long."""
    straggles = 1 + (rng.pareto(1.5) if rng.random() < 0.05 else 0.0)
    return float(np.exp(rng.normal(0, 0.05)) * min(10.0, straggles))


def drive(
    fit: WatchedFit, rng: np.random.Generator, steps: int, *, factor: float = 1.0
) -> list[tuple[int, Drift]]:
    alarms: list[tuple[int, Drift]] = []
    for step in range(steps):
        work = some_work(rng)
        drift = fit.observe(work, TRUE.micros(work) * factor * noise(rng))
        if drift is not None:
            alarms.append((step, drift))
    return alarms


@pytest.mark.parametrize("seed", range(4))
def test_long_stationary_noise_with_heavy_tails_never_alarms(seed: int) -> None:
    assert drive(WatchedFit(), np.random.default_rng(seed), 15_000) == []


@pytest.mark.parametrize("factor", [0.7, 0.8, 1.2, 1.3, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_lasting_shift_alarms_within_two_hundred_steps_and_is_learnt(
    factor: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    fit = WatchedFit()
    assert drive(fit, rng, 2_000) == []
    ((step, drift),) = drive(fit, rng, 2_000, factor=factor)
    assert step < 200
    assert drift.factor == pytest.approx(factor, rel=0.1)
    for _ in range(30):
        work = some_work(rng)
        assert fit.cost.micros(work) == pytest.approx(factor * TRUE.micros(work), rel=0.1)


def test_a_calibrated_prior_that_no_longer_holds_alarms_from_the_first_steps_on() -> None:
    rng = np.random.default_rng(5)
    ((step, _),) = drive(WatchedFit(prior=scaled(TRUE, 1.5), deviation=0.1), rng, 1_000)
    assert step < 200
    assert drive(WatchedFit(prior=TRUE, deviation=0.1), rng, 1_000) == []


def test_a_guess_is_nothing_to_drift_from() -> None:
    assert drive(WatchedFit(prior=scaled(TRUE, 4)), np.random.default_rng(6), 2_000) == []


def test_a_slow_change_is_learnt_without_an_alarm() -> None:
    rng = np.random.default_rng(7)
    fit = WatchedFit()
    for step in range(20_000):
        work = some_work(rng)
        slowly = 1 + 0.3 * step / 20_000
        assert fit.observe(work, TRUE.micros(work) * slowly * noise(rng)) is None
    work = some_work(rng)
    assert fit.cost.micros(work) == pytest.approx(1.3 * TRUE.micros(work), rel=0.1)


def test_work_that_was_never_seen_is_no_drift() -> None:
    rng = np.random.default_rng(8)
    fit = WatchedFit()
    for _ in range(1_000):
        work = StepWork(prefill_tokens=0, decode_tokens=1, context_tokens=100)
        fit.observe(work, TRUE.micros(work) * noise(rng))
    dear = replace(TRUE, prefill=4 * PRIOR.prefill)
    for _ in range(1_000):
        work = StepWork(prefill_tokens=256, decode_tokens=1, context_tokens=100)
        assert fit.observe(work, dear.micros(work) * noise(rng)) is None


def test_suspicion_rises_before_the_alarm_and_reset_ends_it() -> None:
    detector = DriftDetector()
    shifted = np.full(BLOCK, np.log(1.2))
    assert detector.observe(shifted) is None
    assert 0 < detector.suspicion < 1
    detector.reset()
    assert detector.suspicion == 0


def test_the_interval_narrows_with_steps_and_holds_nine_of_ten_of_them() -> None:
    rng = np.random.default_rng(9)
    fit = StepTimeFit(prior=PRIOR, trust=0.05 / AFTER_DRIFT)
    work = some_work(rng)
    spreads = [fit.fitted().predict(work).spread]
    for until in (16, 512):
        while fit.samples < until:
            one = some_work(rng)
            fit.observe(one, TRUE.micros(one) * float(np.exp(rng.normal(0, 0.05))))
        spreads.append(fit.fitted().predict(work).spread)
    assert spreads == sorted(spreads, reverse=True)
    fitted, held = fit.fitted(), 0
    for _ in range(1_000):
        one = some_work(rng)
        micros = TRUE.micros(one) * float(np.exp(rng.normal(0, 0.05)))
        estimate = fitted.predict(one)
        held += estimate.low <= micros <= estimate.high
    assert 860 < held < 950
