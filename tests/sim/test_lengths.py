"""Lengths drawn have the trace's middle and its heavy tail, and stay inside what was seen."""

import numpy as np
import pytest

from meted.sim.lengths import (
    Lengths,
    draw_lengths,
    draw_pairs,
    fit_lengths,
    score_correlation,
)


def test_lognormal_lengths_are_fitted_and_drawn_again() -> None:
    trace = np.random.default_rng(1).lognormal(5.0, 0.8, 20_000)
    fitted = fit_lengths(trace.tolist())
    assert (fitted.mu, fitted.sigma) == (
        pytest.approx(5.0, abs=0.02),
        pytest.approx(0.8, abs=0.02),
    )
    drawn = draw_lengths(fitted, 20_000, seed=2)
    for share in (0.5, 0.95, 0.99):
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(trace, share), rel=0.06)


def test_a_pareto_tail_is_found_and_kept() -> None:
    rng = np.random.default_rng(3)
    body = rng.lognormal(3.0, 0.4, 19_000)
    tail = 80.0 * rng.random(1_000) ** (-1 / 1.2)
    trace = np.concatenate((body[body < 80.0], tail))
    fitted = fit_lengths(trace.tolist())
    assert fitted.tail_shape == pytest.approx(1.2, rel=0.15)
    drawn = draw_lengths(fitted, len(trace), seed=4)
    lognormal = np.exp(fitted.mu + fitted.sigma * rng.standard_normal(len(trace)))
    truth = np.quantile(trace, 0.995)
    assert np.quantile(drawn, 0.995) == pytest.approx(truth, rel=0.25)
    assert np.quantile(lognormal, 0.995) < truth / 2


def test_no_length_is_outside_what_was_seen() -> None:
    fitted = fit_lengths([1.0, 2.0, 4.0, 400.0])
    drawn = draw_lengths(fitted, 10_000, seed=0)
    assert (drawn.min(), drawn.max()) == (1.0, 400.0)


def test_equal_lengths_stay_equal() -> None:
    drawn = draw_lengths(fit_lengths([7.0] * 50), 100, seed=1)
    assert drawn.tolist() == [pytest.approx(7.0)] * 100


def test_quantiles_rise_through_the_tail_s_beginning() -> None:
    lengths = Lengths(
        mu=3.0, sigma=0.5, least=1.0, most=1e6, tail_from=60.0, tail_share=0.05, tail_shape=1.5
    )
    values = lengths.quantile(np.linspace(0.9, 0.999, 200))
    assert np.all(np.diff(values) >= 0)
    assert lengths.quantile(0.95) == pytest.approx(60.0, rel=1e-6)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.8])
def test_pairs_keep_their_correlation_and_their_lengths(correlation: float) -> None:
    prompt = Lengths(mu=6.0, sigma=1.0, least=1.0, most=1e5)
    output = Lengths(mu=4.0, sigma=0.5, least=1.0, most=1e4)
    first, second = draw_pairs(prompt, output, correlation, 20_000, rng=np.random.default_rng(5))
    assert score_correlation(first.tolist(), second.tolist()) == pytest.approx(
        correlation, abs=0.03
    )
    assert np.median(first) == pytest.approx(np.exp(6.0), rel=0.05)
    assert np.median(second) == pytest.approx(np.exp(4.0), rel=0.05)


@pytest.mark.parametrize("values", [[], [3.0, 0.0]])
def test_lengths_that_cannot_be_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="expected one or more, all above 0"):
        fit_lengths(values)
