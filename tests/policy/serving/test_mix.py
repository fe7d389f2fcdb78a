"""The cheapest mix is as cheap as the best of all mixes."""

from itertools import product

import numpy as np
import pytest

from meted.domain.allocation import ReplicaOption
from meted.domain.units import Micros
from meted.policy.serving.mix import Way, cheapest_mix


def way(kind: str, devices: int, rate: float, dollars: float, fresh: float, there: int) -> Way:
    option = ReplicaOption(kind=kind, devices=devices, requests_per_second=rate, load=Micros(0))
    return Way(option=option, dollars=dollars, fresh=fresh, there=there)


def best_by_hand(ways, devices, rate, least, most) -> float | None:
    best = None
    for counts in product(range(6), repeat=len(ways)):
        used: dict[str, int] = {}
        for one, n in zip(ways, counts, strict=True):
            used[one.option.kind] = used.get(one.option.kind, 0) + n * one.option.devices
        capacity = sum(
            one.option.requests_per_second * n for one, n in zip(ways, counts, strict=True)
        )
        if capacity < rate - 1e-9 or not least <= sum(counts) <= most:
            continue
        if any(used[kind] > devices.get(kind, 0) for kind in used):
            continue
        cost = sum(
            one.dollars * min(n, one.there) + one.fresh * max(0, n - one.there)
            for one, n in zip(ways, counts, strict=True)
        )
        best = cost if best is None else min(best, cost)
    return best


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize("seed", range(40))
def test_it_costs_what_the_best_of_all_mixes_costs(seed: int, few: int) -> None:
    rng = np.random.default_rng(seed)
    devices = {"a": int(rng.integers(1, 6)), "b": int(rng.integers(0, 5))}
    ways = []
    for kind, width in (("a", 1), ("a", 2), ("b", 1)):
        dollars = float(rng.uniform(0.5, 4.0)) * width
        fresh = dollars * float(rng.uniform(1.0, 1.5))
        ways.append(
            way(kind, width, float(rng.uniform(0.3, 2.0)), dollars, fresh, int(rng.integers(3)))
        )
    rate, least, most = float(rng.uniform(0.1, 6.0)), int(rng.integers(2)), int(rng.integers(2, 6))
    found = cheapest_mix(ways, devices, rate, least=least, most=most, few=few)
    best = best_by_hand(ways, devices, rate, least, most)
    if best is None:
        assert found is None
    else:
        assert found is not None and found.capacity >= rate - 1e-6
        assert found.dollars == pytest.approx(best)


def test_what_is_there_is_not_replaced_for_a_small_saving() -> None:
    old, new = way("a", 1, 1.0, 1.00, 1.1, there=2), way("b", 1, 1.0, 0.95, 1.045, there=0)
    found = cheapest_mix([old, new], {"a": 4, "b": 4}, 2.0, least=1, most=4)
    assert found is not None and found.counts == (2, 0)
