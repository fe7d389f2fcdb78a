"""What is drawn is like what was fitted: its rate, bursts and day; equal seeds draw equally."""

import numpy as np
import pytest

from meted.sim.generators import (
    Diurnal,
    Modulated,
    Process,
    Renewal,
    draw_arrivals,
    fit_diurnal,
    fit_modulated,
    fit_renewal,
)

DAY = 86_400.0
PROCESSES = (
    Renewal(rate=0.5, cv=1.0),
    Renewal(rate=0.5, cv=4.0),
    Modulated(low=0.1, high=2.0, stay_low=600.0, stay_high=200.0),
    Diurnal(rates=(0.1, 0.9, 0.0, 0.4)),
    Diurnal(rates=(0.2, 1.4), cv=3.0),
)


def dispersion(moments: np.ndarray, window: float, span: float) -> float:
    """Variance over mean of counts in windows; 1 for Poisson arrivals."""
    counts = np.histogram(moments, bins=int(span / window), range=(0, span))[0]
    return float(counts.var() / counts.mean())


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_as_many_come_as_the_rate_says(process: Process) -> None:
    span = 4 * DAY
    counts = [len(draw_arrivals(process, span, seed=seed)) for seed in range(20)]
    assert np.mean(counts) == pytest.approx(process.rate * span, rel=0.05)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_moments_are_in_order_and_before_the_end(process: Process) -> None:
    moments = draw_arrivals(process, 5_000.0, seed=3)
    assert np.all(np.diff(moments) >= 0)
    assert moments[0] >= 0
    assert moments[-1] < 5_000.0


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_equal_seeds_draw_equal_moments_and_others_do_not(process: Process) -> None:
    first, again, other = (draw_arrivals(process, 20_000.0, seed=seed) for seed in (5, 5, 6))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_fitted_renewal_has_the_gaps_of_its_trace() -> None:
    trace = draw_arrivals(Renewal(rate=2.0, cv=3.0), 50_000.0, seed=1)
    fitted = fit_renewal(trace.tolist())
    assert fitted.rate == pytest.approx(2.0, rel=0.05)
    assert fitted.cv == pytest.approx(3.0, rel=0.05)


def test_a_fitted_modulated_process_is_as_bursty_as_its_trace() -> None:
    process = Modulated(low=0.2, high=5.0, stay_low=900.0, stay_high=300.0)
    span = 4 * DAY
    trace = draw_arrivals(process, span, seed=2)
    fitted = fit_modulated(trace.tolist())
    assert fitted.high == pytest.approx(5.0, rel=0.1)
    assert fitted.low == pytest.approx(0.2, rel=0.5)
    drawn = draw_arrivals(fitted, span, seed=3)
    burst = dispersion(trace, 600.0, span)
    assert burst > 100
    assert dispersion(drawn, 600.0, span) == pytest.approx(burst, rel=0.35)


def test_a_fitted_day_has_its_trace_s_peak_and_night() -> None:
    rates = (0.02, 0.3, 0.6, 0.1)
    trace = draw_arrivals(Diurnal(rates=rates), 8 * DAY, seed=4)
    fitted = fit_diurnal(trace.tolist(), levels=4)
    assert fitted.rates == pytest.approx(rates, rel=0.1)
    assert fitted.cv == pytest.approx(1.0, abs=0.05)


def test_a_day_s_shape_is_not_taken_for_bursts() -> None:
    trace = draw_arrivals(Diurnal(rates=(0.01, 1.0), cv=0.5), 8 * DAY, seed=4)
    assert fit_renewal(trace.tolist()).cv > 2
    assert fit_diurnal(trace.tolist(), levels=2).cv == pytest.approx(0.5, abs=0.05)


def test_hours_that_a_trace_never_reaches_have_its_mean_rate() -> None:
    fitted = fit_diurnal([float(one) for one in range(0, 7_200, 10)], levels=24)
    assert fitted.rates[12] == pytest.approx(0.1, rel=0.01)


def test_nothing_comes_in_a_dead_hour() -> None:
    moments = draw_arrivals(Diurnal(rates=(1.0, 0.0, 1.0, 0.0)), DAY, seed=0)
    places = (moments // (DAY / 4)).astype(int)
    assert set(places.tolist()) == {0, 2}


@pytest.mark.parametrize("moments", [[], [1.0, 2.0], [3.0, 3.0, 3.0]])
def test_too_few_arrivals_cannot_be_fitted(moments: list[float]) -> None:
    for fit in (fit_renewal, fit_modulated, fit_diurnal):
        with pytest.raises(ValueError, match=f"{len(moments)} arrivals"):
            fit(moments)


def test_rates_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match="rate of a renewal process is 0"):
        Renewal(rate=0.0, cv=1.0)
    with pytest.raises(ValueError, match="a rate is -1"):
        Diurnal(rates=(-1.0, 2.0))
    with pytest.raises(ValueError, match="the low rate is 3"):
        Modulated(low=3.0, high=1.0, stay_low=1.0, stay_high=1.0)
