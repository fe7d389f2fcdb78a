"""Laws of statistical efficiency: between nothing and the whole batch."""

import pytest

from meted.predict.training.statistical import GradientNoise, goodput


def test_the_initial_batch_gains_exactly_one_step() -> None:
    assert GradientNoise(squared=3.0, variance=7.0).gain(1.0) == 1.0


def test_a_larger_batch_gains_more_but_less_than_its_size() -> None:
    noise = GradientNoise(squared=1.0, variance=4.0)
    assert noise.gain(4.0) == pytest.approx(2.5)
    assert 1.0 < noise.gain(2.0) < noise.gain(8.0) < 8.0


def test_all_noise_gains_in_full_and_no_noise_gains_nothing() -> None:
    assert GradientNoise(squared=0.0, variance=2.0).gain(8.0) == pytest.approx(8.0)
    assert GradientNoise(squared=2.0, variance=0.0).gain(8.0) == pytest.approx(1.0)


def test_goodput_is_gain_over_time_and_errors_name_the_value() -> None:
    noise = GradientNoise(squared=1.0, variance=4.0)
    assert goodput(noise, scale=4.0, step_seconds=0.5) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="takes 0"):
        goodput(noise, scale=4.0, step_seconds=0)
    with pytest.raises(ValueError, match="scale is 0"):
        noise.gain(0)
