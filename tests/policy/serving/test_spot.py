"""Spot is used where it pays, with enough beside it, and left when it is gone."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.allocation import ReplicaOption, Snapshot
from meted.domain.pool import Price
from meted.domain.units import Micros, NanoUSD
from meted.policy.serving.spot import SpotScaling
from meted.testing.builders import make_demand
from meted.testing.check_exclusive import make_exclusive_pool

OPTIONS = tuple(
    ReplicaOption(kind=kind, devices=1, requests_per_second=1.0, load=Micros(0))
    for kind in ("fast", "slow")
)


def snapshot(rate: float, *, gone: frozenset[int] = frozenset(), spot: str = "slow") -> Snapshot:
    pool = replace(make_exclusive_pool(per_node=4, fast=8, slow=8), spot=frozenset({spot}))
    demand = replace(
        make_demand("m", rate=rate, queued=0), least=1, most=16, running=0, options=OPTIONS
    )
    return Snapshot(now=Micros(0), pool=pool, deployments=(demand,), jobs=(), unavailable=gone)


def kinds(one: Snapshot, policy: SpotScaling) -> list[str]:
    of = {device.index: device.kind for device in one.pool.devices}
    return [of[place[0]] for place in policy.decide(one).replicas[0].places]


@pytest.mark.parametrize("spare", [0, 1, 2])
@pytest.mark.parametrize("rate", [0.5, 2.5, 4.0])
def test_what_is_left_is_enough_when_the_spares_vanish(spare: int, rate: float) -> None:
    got = kinds(snapshot(rate), SpotScaling(busy=1.0, spare=spare))
    assert got.count("slow") == int(np.ceil(rate)) + spare, "slow is the cheap kind"
    assert len(got) - min(spare, got.count("slow")) >= rate


def test_without_spot_it_falls_back_to_on_demand() -> None:
    got = kinds(snapshot(3.0, gone=frozenset(range(8, 16))), SpotScaling(busy=1.0))
    assert got == ["fast"] * 3


def test_spot_that_is_dearer_with_its_spares_is_not_used() -> None:
    # One fast one costs $0.74 an hour; of slow ones at $0.135 five spares are six.
    got = kinds(snapshot(1.0), SpotScaling(busy=1.0, spare=5))
    assert got == ["fast"]


def test_who_is_replaced_stays_until_the_others_are_ready() -> None:
    policy = SpotScaling(busy=1.0)
    cheap = snapshot(3.0)
    first = policy.decide(cheap)
    slow = first.replicas[0].places
    dear = Price(nano_usd_per_device_hour=NanoUSD(9_000_000_000))
    pool = replace(cheap.pool, prices={**cheap.pool.prices, "slow": dear})
    moved = replace(cheap, pool=pool, now=Micros(60_000_000), previous=first)
    second = policy.decide(moved)
    places = second.replicas[0].places
    assert set(slow) < set(places) and len(places) == len(slow) + 3
    assert "4 of other kinds stay until the new ones are ready" in second.replicas[0].reason

    def later(starting: int) -> set[tuple[int, ...]]:
        (demand,) = moved.deployments
        after = replace(
            moved,
            now=Micros(120_000_000),
            previous=second,
            deployments=(replace(demand, starting=starting),),
        )
        return set(policy.decide(after).replicas[0].places)

    assert later(1) == set(places)
    assert later(0) == set(places) - set(slow)


def test_rate_of_the_window_holds_the_mix() -> None:
    policy = SpotScaling(busy=1.0, window_s=120.0)
    plan = policy.decide(snapshot(4.0))
    counts: list[int] = []
    for minute in (1, 2, 3):
        calm = replace(snapshot(1.0), now=Micros(minute * 60_000_000), previous=plan)
        plan = policy.decide(calm)
        counts.append(len(plan.replicas[0].places))
    assert counts == [5, 5, 2]
