"""Keeping warm for what a cold start costs is never twice as dear as hindsight."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.allocation import ReplicaOption
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import Micros, NanoUSD
from meted.policy.serving.warm import HOUR, Warm
from meted.testing.builders import make_demand

OPTION = ReplicaOption(kind="g", devices=2, requests_per_second=1.0, load=Micros(90_000_000))


def pool(*, idle: int | None, parked: int | None) -> Pool:
    price = Price(
        nano_usd_per_device_hour=NanoUSD(3_600_000_000),
        idle=None if idle is None else NanoUSD(idle),
        parked=None if parked is None else NanoUSD(parked),
    )
    return Pool(devices=(Device(index=0, kind="g"),), price=price, shared=False)


@pytest.mark.parametrize("seed", range(20))
def test_it_costs_at_most_twice_the_best_in_hindsight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warm = Warm(late_usd=float(rng.uniform(0, 0.5)))
    here = pool(idle=None, parked=int(rng.integers(0, 3_000_000_000)))
    price = here.price_of("g")
    saved = (price.nano_usd_per_device_hour - price.when_parked) * 2 / HOUR
    cold, keep = warm.cold_nano_usd(here, OPTION), warm.keep_micros(here, OPTION)
    gaps = rng.exponential(keep, size=200)
    online = sum(gap * saved if gap < keep else keep * saved + cold for gap in gaps)
    hindsight = sum(min(gap * saved, cold) for gap in gaps)
    assert hindsight < online <= 2 * hindsight * (1 + 1e-9)


def test_where_an_unused_device_saves_nothing_it_is_kept() -> None:
    here = pool(idle=None, parked=None)
    assert Warm().keep_micros(here, OPTION) == float("inf")
    assert Warm().keep_micros(here, OPTION, wanted=True) == pytest.approx(90e6)


def test_it_rests_when_its_time_is_over_and_not_before() -> None:
    here = pool(idle=None, parked=0)
    demand = replace(make_demand("m", rate=0.0), least=0, replicas=1, running=0, queued=0)
    early, late = (
        replace(demand, quiet=Micros(89_000_000)),
        replace(demand, quiet=Micros(90_000_000)),
    )
    assert not Warm().rests(early, here, OPTION)
    assert Warm().rests(late, here, OPTION)
    assert not Warm().rests(replace(late, running=1), here, OPTION)
    assert not Warm().rests(replace(late, least=1), here, OPTION)
