"""Faults by seed: their means, that they do not overlap, and that one does not move another."""

from dataclasses import replace

import numpy as np
import pytest
from serving_scenarios import SECOND, Counts, make_serving, replica, request

from meted.domain.pool import Device, Pool, Price
from meted.domain.units import Micros, NanoUSD
from meted.sim.faults import (
    MICROS_PER_HOUR,
    node_failures,
    price_moves,
    spot_interruptions,
    together,
)
from meted.sim.scenario import Outage
from meted.sim.world import simulate

HOUR = Micros(MICROS_PER_HOUR)
YEAR = Micros(365 * 24 * HOUR)
PRICE = Price(nano_usd_per_device_hour=NanoUSD(2_000_000_000), parked=NanoUSD(0))
POOL = Pool(
    devices=tuple(Device(index=index, kind="gpu", node=index // 4) for index in range(16)),
    price=PRICE,
    shared=False,
    spot=frozenset({"gpu"}),
)


def test_nodes_fail_as_often_and_as_long_as_asked() -> None:
    found = node_failures(POOL, mtbf=Micros(90 * HOUR), mttr=Micros(10 * HOUR), until=YEAR, seed=3)
    assert len(found) == pytest.approx(4 * 365 * 24 / 100, rel=0.15)
    away = [(one.back or 0) - one.at for one in found]
    assert np.mean(away) == pytest.approx(10 * HOUR, rel=0.15)
    assert all(len({index // 4 for index in one.devices}) == 1 for one in found)
    assert all(len(one.devices) == 4 for one in found)


def test_another_node_does_not_move_a_nodes_failures() -> None:
    def of_first(pool: Pool) -> list[tuple[int, int | None]]:
        found = node_failures(pool, mtbf=Micros(90 * HOUR), mttr=HOUR, until=YEAR, seed=3)
        return [(one.at, one.back) for one in found if 0 in one.devices]

    assert of_first(POOL) == of_first(replace(POOL, devices=POOL.devices[:4]))


def test_spot_devices_are_taken_as_often_as_asked() -> None:
    found = spot_interruptions(
        POOL, per_device_hour={"gpu": 0.05}, away=Micros(5 * HOUR), until=YEAR, seed=1
    )
    assert len(found) == pytest.approx(16 * 365 * 24 / 25, rel=0.05)
    assert all(len(one.devices) == 1 for one in found)


def test_rate_for_a_kind_that_is_not_spot_is_an_error() -> None:
    with pytest.raises(ValueError, match="spot kinds are: gpu"):
        spot_interruptions(POOL, per_device_hour={"tpu": 1.0}, away=HOUR, until=YEAR, seed=1)


def test_price_stays_round_its_base_with_its_spread() -> None:
    found = price_moves(
        "gpu", PRICE, every=HOUR, volatility=0.1, reversion=0.05, until=YEAR, seed=2
    )
    logs = np.log([one.prices["gpu"].nano_usd_per_device_hour / 2e9 for one in found])
    assert np.mean(logs) == pytest.approx(0, abs=0.1)
    assert np.std(logs) == pytest.approx(0.1 / np.sqrt(2 * 0.05), rel=0.2)
    assert all(one.prices["gpu"].parked == 0 for one in found)


def test_price_without_reversion_wanders_with_the_root_of_time() -> None:
    ends = [
        np.log(
            price_moves(
                "gpu", PRICE, every=HOUR, volatility=0.1, reversion=0.0,
                until=Micros(101 * HOUR), seed=seed,
            )[-1].prices["gpu"].nano_usd_per_device_hour / 2e9
        )
        for seed in range(200)
    ]  # fmt: skip
    assert np.std(ends) == pytest.approx(1.0, rel=0.2)


def test_device_lost_twice_comes_back_when_both_causes_are_over() -> None:
    def gone(at: int, back: int | None, *devices: int) -> Outage:
        return Outage(
            at=Micros(at),
            devices=frozenset(devices),
            back=None if back is None else Micros(back),
            reason=f"at {at}",
        )

    found = together([gone(10, 30, 0, 1)], [gone(20, 50, 1), gone(40, 45, 2), gone(60, None, 0)])
    assert found == (
        gone(10, 30, 0), replace(gone(10, 50, 1), reason="at 10"), gone(40, 45, 2),
        gone(60, None, 0),
    )  # fmt: skip


def test_outages_of_several_causes_never_overlap() -> None:
    merged = together(
        node_failures(POOL, mtbf=Micros(50 * HOUR), mttr=Micros(20 * HOUR), until=YEAR, seed=1),
        spot_interruptions(POOL, per_device_hour={"gpu": 0.1}, away=HOUR, until=YEAR, seed=1),
    )
    until = dict.fromkeys(range(16), -1.0)
    for one in merged:
        for device in one.devices:
            assert one.at > until[device]
            until[device] = one.back if one.back is not None else float("inf")
    assert sum(len(one.devices) for one in merged) > 16 * 300


@pytest.mark.parametrize("name", ["mtbf", "mttr"])
def test_time_that_is_not_positive_is_an_error(name: str) -> None:
    times = {"mtbf": HOUR, "mttr": HOUR, name: Micros(0)}
    with pytest.raises(ValueError, match=name):
        node_failures(POOL, until=YEAR, seed=0, **times)


def test_what_vanishes_together_takes_nothing_over_from_each_other() -> None:
    """Three of four replicas die at one moment; their requests have a second attempt left for it,
    which only the fourth can give."""
    outage = Outage(
        at=Micros(4 * SECOND), devices=frozenset({0, 1, 2}), back=None, reason="taken back"
    )
    requests = [request(3 + number / 10, output=2000) for number in range(8)]
    policy = Counts(by_second=(4,))
    result = simulate(
        make_serving(requests, policy=policy, model=replica(max_batch=8), outages=[outage])
    )
    (found,) = result.deployments
    assert (len(found.served), found.refused, found.unfinished) == (8, 0, 0)
    assert {one.replica for one in found.served} == {3}
