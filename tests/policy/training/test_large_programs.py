"""Thousands of jobs: another way to the answer, which is as good as the exact one."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.allocation import JobDemand, JobOption, Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.policy.training import horizon
from meted.policy.training.groups import group_jobs
from meted.policy.training.makespan import MakespanPolicy
from meted.policy.training.pick import horizon_program, pick
from meted.policy.training.program import LARGE, Program, rows_of
from meted.policy.training.room import make_room
from meted.policy.training.ways import Ways, make_ways

SPEED = {"a": 4.0, "b": 1.9, "c": 1.0}


def snapshot(jobs: int, devices: int, *, widest: int = 4, seed: int = 0) -> Snapshot:
    rng = np.random.default_rng(seed)
    kinds = list(SPEED)
    price = Price(nano_usd_per_device_hour=NanoUSD(1_000_000_000))
    demands: list[JobDemand] = []
    for number in range(jobs):
        width = int(rng.integers(1, widest + 1))
        demands.append(
            JobDemand(
                job=JobName(f"j{number}"),
                order=number,
                remaining_steps=int(rng.integers(1_000, 100_000)),
                tokens_per_device_second=0.0,
                options=tuple(
                    JobOption(kind=kind, devices=width, steps_per_second=speed * width**0.9)
                    for kind, speed in SPEED.items()
                ),
            )
        )
    return Snapshot(
        now=Micros(0),
        pool=Pool(
            devices=tuple(Device(index=n, kind=kinds[n % 3], node=n // 8) for n in range(devices)),
            price=price,
            shared=False,
        ),
        deployments=(),
        jobs=tuple(demands),
    )


def ways_of(seen: Snapshot) -> Ways:
    return make_ways(seen.jobs, make_room(seen))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rounding_loses_at_most_a_job_for_each_kind(seed: int) -> None:
    ways = ways_of(snapshot(1500, 1200, seed=seed))
    value = np.random.default_rng(seed).uniform(0.5, 1.0, len(ways.job)) * ways.width
    assert len(value) > LARGE
    chosen = pick(ways, value, seconds=60.0)
    count = len(value)
    relaxed = Program(cost=-value, most=np.ones(count))
    relaxed.at_most(rows_of(ways.job, np.ones(count), height=1500, width=count), np.ones(1500))
    relaxed.at_most(rows_of(ways.kind, ways.width, height=3, width=count), ways.capacity)
    bound = relaxed.vertex(60.0)
    assert bound is not None
    used = np.bincount(ways.kind[chosen], ways.width[chosen], 3)
    assert (used <= ways.capacity).all()
    assert len(set(ways.job[chosen].tolist())) == len(chosen)
    assert value @ bound - 3 * value.max() <= value[chosen].sum() <= value @ bound + 1e-6


def test_without_a_relaxation_in_time_the_densest_fill_the_pool() -> None:
    ways = ways_of(snapshot(1500, 1200))
    value = np.random.default_rng(5).uniform(0.5, 1.0, len(ways.job)) * ways.width
    chosen = pick(ways, value, seconds=0.0)
    used = np.bincount(ways.kind[chosen], ways.width[chosen], 3)
    assert (used <= ways.capacity).all() and used.sum() > 1190


def test_the_least_time_of_many_jobs_is_that_of_the_exact_program() -> None:
    ways = ways_of(snapshot(1500, 900))
    groups = group_jobs(ways, lambda job: job.remaining_steps)
    exact = horizon_program(groups, 0.0, horizon.OVERRUN_USD).vertex(60.0)
    assert exact is not None
    found = horizon.least_hours(ways, 60.0)
    assert found == pytest.approx(exact[-1], rel=1e-6)
    # Without an answer in time it is a time in which all can be done, and no steps for hours.
    assert found <= horizon.least_hours(ways, 0.0) < 20 * found


def test_many_jobs_get_the_whole_pool_within_the_makespan() -> None:
    seen = replace(snapshot(1500, 900), solver_seconds=60.0)
    plan = MakespanPolicy().decide(seen)
    devices = [one for job in plan.jobs for one in job.devices]
    assert len(devices) == len(set(devices)) and len(devices) > 880
    assert isinstance(plan.memory, horizon.Horizon)
    assert all("in time" in job.reason for job in plan.jobs)
