"""P: step times are recovered from measurements, forecasts follow arrivals, load costs latency."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.allocation import Harvest
from meted.predict.arrivals import ArrivalForecast
from meted.predict.serving import Load, Slowdown, predict_serving, utilisation
from meted.predict.step_time import PRIOR, StepCost, StepTimeFit, StepWork

TRUE = StepCost(fixed=9_000, prefill=280, decode=1_700, context=2)


def some_work(rng: random.Random) -> StepWork:
    return StepWork(
        prefill_tokens=rng.choice([0, 0, 40, 256]),
        decode_tokens=rng.randint(0, 8),
        context_tokens=rng.randint(0, 2000),
    )


def test_a_fit_predicts_unseen_steps_within_three_percent_under_noise() -> None:
    rng = random.Random(7)
    fit = StepTimeFit()
    for _ in range(512):
        work = some_work(rng)
        fit.observe(work, round(TRUE.micros(work) * rng.uniform(0.95, 1.05)))
    for _ in range(50):
        work = some_work(rng)
        assert fit.cost.micros(work) == pytest.approx(TRUE.micros(work), rel=0.03)


def test_work_that_was_never_seen_keeps_a_cost() -> None:
    fit = StepTimeFit()
    for _ in range(64):
        fit.observe(StepWork(prefill_tokens=0, decode_tokens=1, context_tokens=10), 12_000)
    assert fit.cost.prefill == pytest.approx(PRIOR.prefill, rel=0.2)


def test_forecast_settles_on_a_steady_rate() -> None:
    forecast = ArrivalForecast()
    for _ in range(200):
        forecast = forecast.observe(3, 1.0)
    assert forecast.rate(1.0) == pytest.approx(3.0, rel=0.05)


def test_forecast_leads_a_ramp_and_forgets_a_burst() -> None:
    forecast = ArrivalForecast()
    for second in range(60):
        forecast = forecast.observe(second, 1.0)
    assert forecast.rate(5.0) > forecast.level
    for _ in range(200):
        forecast = forecast.observe(0, 1.0)
    assert forecast.rate(1.0) < 0.01


@given(st.lists(st.integers(min_value=0, max_value=100), max_size=50))
def test_a_forecast_is_never_negative(arrivals: list[int]) -> None:
    forecast = ArrivalForecast()
    for count in arrivals:
        forecast = forecast.observe(count, 1.0)
        assert forecast.rate(10.0) >= 0


def load(rate: float) -> Load:
    return Load(arrivals_per_second=rate, prompt_tokens=200, output_tokens=50, chunk_tokens=256)


@given(low=st.floats(min_value=0, max_value=3), more=st.floats(min_value=0, max_value=3))
def test_more_load_is_never_less_busy_nor_faster(low: float, more: float) -> None:
    none = Slowdown(harvest=Harvest.NONE, factor=1.0, samples=0)
    assert utilisation(TRUE, load(low)) <= utilisation(TRUE, load(low + more)) + 1e-9
    slow, slower = (predict_serving(TRUE, load(rate), none) for rate in (low, low + more))
    assert slow.ttft_p95 <= slower.ttft_p95 + 1
    assert slow.tpot_p95 <= slower.tpot_p95 + 1


def test_a_slowdown_lengthens_both_latencies() -> None:
    alone = predict_serving(TRUE, load(1.0), Slowdown(harvest=Harvest.NONE, factor=1, samples=0))
    beside = predict_serving(TRUE, load(1.0), Slowdown(harvest=Harvest.IDLE, factor=1.4, samples=0))
    assert beside.ttft_p95 > 1.3 * alone.ttft_p95
    assert beside.tpot_p95 > 1.3 * alone.tpot_p95
