"""A rate from a range test lies where the loss falls fastest; a proxy's rate moves by its rule."""

import math
from dataclasses import replace

import numpy as np
import pytest

from meted.optimise.rate_finder import (
    MU_P,
    STANDARD_ADAM,
    ProxyOptimum,
    RateError,
    RatePoint,
    suggest,
    transferred,
)
from meted.predict.estimate import Estimate

RATES = np.geomspace(1e-7, 1.0, 80)


def sweep(best: float, *, noise: float = 0.0, seed: int = 0) -> list[RatePoint]:
    """Loss of a sweep: it falls as a logistic in log rate, fastest at `best`, and breaks out when
    the rate is thirty times that."""
    rng = np.random.default_rng(seed)
    logs = np.log(RATES / best)
    losses = 6 - 2 / (1 + np.exp(-1.5 * logs)) + np.exp(2.5 * (logs - math.log(30)))
    losses += rng.normal(0, noise, len(RATES))
    return [
        RatePoint(rate=float(rate), loss=float(loss) if loss < 50 else math.nan)
        for rate, loss in zip(RATES, losses, strict=True)
    ]


@pytest.mark.parametrize("best", [1e-5, 3e-4, 1e-2])
def test_the_suggested_rate_is_where_the_loss_falls_fastest(best: float) -> None:
    rate = suggest(sweep(best)).rate
    assert rate.low < best < rate.high
    assert rate.expected == pytest.approx(best, rel=0.25)
    assert rate.high < 30 * best


def test_noise_moves_it_by_less_than_its_interval() -> None:
    inside = 0
    for seed in range(100):
        rate = suggest(sweep(1e-3, noise=0.02, seed=seed)).rate
        inside += 1e-3 / 3 <= rate.expected <= 3e-3
    assert inside >= 95


def test_the_reason_says_where_the_loss_turned() -> None:
    assert "fastest at a rate of 0.00" in suggest(sweep(1e-3)).reason
    assert "no further from 0.0" in suggest(sweep(1e-3)).reason


def test_a_loss_that_does_not_fall_gives_no_rate() -> None:
    rng = np.random.default_rng(1)
    flat = [RatePoint(rate=float(one), loss=5 + rng.normal(0, 0.05)) for one in RATES]
    with pytest.raises(RateError, match="begin with a lower rate, or smooth"):
        suggest(flat)
    rising = [RatePoint(rate=float(one), loss=5 + at) for at, one in enumerate(RATES)]
    with pytest.raises(RateError, match="begin with a lower rate"):
        suggest(rising)
    with pytest.raises(RateError, match="with rising rates"):
        suggest(list(reversed(sweep(1e-3))))
    with pytest.raises(RateError, match="begin with a lower one"):
        suggest([replace(sweep(1e-3)[0], loss=math.nan), *sweep(1e-3)[1:]])


def proxy(width: int, rate: float, *, batch: int = 32, spread: float = 1.2) -> ProxyOptimum:
    return ProxyOptimum(
        width=width,
        batch=batch,
        rate=Estimate(low=rate / spread, expected=rate, high=rate * spread),
    )


def test_one_proxy_moves_by_the_rule() -> None:
    assert transferred(
        [proxy(256, 1e-2)], width=2048, batch=32, rule=STANDARD_ADAM
    ).expected == pytest.approx(1e-2 / 8)
    assert transferred([proxy(256, 1e-2)], width=2048, batch=128, rule=MU_P).expected == (
        pytest.approx(2e-2)
    )


def test_a_proxy_as_large_as_the_model_keeps_its_own_interval() -> None:
    one = proxy(256, 1e-2)
    same = transferred([one], width=256, batch=32, rule=STANDARD_ADAM)
    assert (same.low, same.high) == (pytest.approx(one.rate.low), pytest.approx(one.rate.high))


def test_the_further_the_model_the_wider_the_interval() -> None:
    spreads = [
        transferred([proxy(256, 1e-2)], width=width, batch=32, rule=STANDARD_ADAM).spread
        for width in (256, 512, 1024, 4096)
    ]
    assert spreads == sorted(set(spreads))


def test_proxies_of_several_widths_correct_a_wrong_rule() -> None:
    """The truth goes as width^-0.5."""
    proxies = [proxy(width, 0.1 * width**-0.5, spread=1.05) for width in (64, 128, 256, 512)]
    truth = 0.1 * 2048**-0.5
    found = transferred(proxies, width=2048, batch=32, rule=STANDARD_ADAM)
    alone = transferred(proxies[-1:], width=2048, batch=32, rule=STANDARD_ADAM)
    assert found.expected == pytest.approx(truth, rel=0.1)
    assert found.low < truth < found.high and found.spread < alone.spread


def test_intervals_of_transferred_rates_cover_when_the_rule_holds() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(1_000):
        power = rng.normal(STANDARD_ADAM.width_power, STANDARD_ADAM.width_doubt)
        deviation = math.log(1.2) / 1.645
        proxies = [
            proxy(width, 0.1 * width**power * math.exp(rng.normal(0, deviation)))
            for width in (128, 256)
        ]
        found = transferred(proxies, width=1024, batch=32, rule=STANDARD_ADAM)
        hits += found.low <= 0.1 * 1024**power <= found.high
    assert 0.87 <= hits / 1_000 <= 0.93


def test_without_proxies_there_is_no_rate() -> None:
    with pytest.raises(RateError, match="no proxy was trained"):
        transferred([], width=8, batch=1, rule=MU_P)
