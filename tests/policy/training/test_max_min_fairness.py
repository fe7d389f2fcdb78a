"""Laws of max-min fairness over devices of several kinds."""

import numpy as np
import pytest

from meted.domain.allocation import JobDemand, Snapshot
from meted.domain.pool import Pool
from meted.domain.units import Micros
from meted.policy.training.max_min import fair_paces, max_min_shares
from meted.policy.training.room import make_room
from meted.policy.training.ways import Ways, make_ways
from meted.testing.check_exclusive import make_exclusive_job, make_exclusive_pool


def ways_of(pool: Pool, *jobs: JobDemand) -> Ways:
    snapshot = Snapshot(now=Micros(0), pool=pool, deployments=(), jobs=jobs)
    return make_ways(jobs, make_room(snapshot))


def paces_of(ways: Ways, *, by_price: bool = False) -> list[float]:
    return ways.sum_by_job(max_min_shares(ways, by_price=by_price) * ways.pace).tolist()


def test_equal_jobs_get_equal_shares() -> None:
    jobs = [make_exclusive_job(f"j{n}", order=n) for n in range(5)]
    paces = paces_of(ways_of(make_exclusive_pool(fast=1, middle=1, slow=1), *jobs))
    assert paces == pytest.approx([paces[0]] * 5)
    assert sum(paces) == pytest.approx(17.0, rel=1e-3)


def test_a_job_of_twice_the_weight_gets_twice_as_much() -> None:
    ways = ways_of(
        make_exclusive_pool(fast=1),
        make_exclusive_job("one", paces=(("fast", 10.0),)),
        make_exclusive_job("two", paces=(("fast", 10.0),), weight=2.0),
    )
    one, two = paces_of(ways)
    assert two == pytest.approx(2 * one, rel=1e-3)


def test_devices_go_to_whom_they_help_most() -> None:
    """Against an even mix both gain if each gets the kind on which it is fast."""
    ways = ways_of(
        make_exclusive_pool(fast=1, slow=1),
        make_exclusive_job("fast", paces=(("fast", 10.0), ("slow", 1.0))),
        make_exclusive_job("slow", paces=(("fast", 3.0), ("slow", 9.0))),
    )
    fast, slow = paces_of(ways)
    assert slow == pytest.approx(9.0, rel=1e-3)
    assert fast / 5.5 >= 1.5 * (1 - 1e-4)


def test_nobody_falls_below_an_equal_part_of_the_pool() -> None:
    generator = np.random.default_rng(3)
    for _ in range(10):
        jobs = [
            make_exclusive_job(
                f"j{n}",
                paces=tuple(
                    (kind, float(generator.uniform(1, 10))) for kind in ("fast", "middle", "slow")
                ),
            )
            for n in range(12)
        ]
        ways = ways_of(make_exclusive_pool(fast=2, middle=2, slow=2), *jobs)
        part = fair_paces(ways) * 6 / 12
        assert (np.array(paces_of(ways)) >= part * (1 - 1e-4)).all()


def test_twenty_old_devices_are_not_twenty_new_ones() -> None:
    """By price a fair part is mostly new devices, so the job that needs them gets more of them."""
    pool = make_exclusive_pool(fast=20, slow=20)
    jobs = [
        make_exclusive_job(f"new{n}", paces=(("fast", 10.0), ("slow", 1.0))) for n in range(30)
    ] + [make_exclusive_job(f"any{n}", paces=(("fast", 10.0), ("slow", 10.0))) for n in range(30)]
    ways = ways_of(pool, *jobs)
    by_count, by_price = paces_of(ways), paces_of(ways, by_price=True)
    assert by_price[0] > by_count[0] * 1.05
    assert by_price[-1] < by_count[-1]


def test_a_job_that_fits_nowhere_takes_nothing_from_the_others() -> None:
    jobs = [make_exclusive_job(f"j{n}") for n in range(3)]
    pool = make_exclusive_pool(fast=1, middle=1)
    alone = paces_of(ways_of(pool, *jobs))
    wide = make_exclusive_job("wide", devices=8)
    assert paces_of(ways_of(pool, *jobs, wide))[:3] == pytest.approx(alone, rel=1e-4)
