"""Laws of the goodput policy: devices are not exceeded, a move must pay, places are packed."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.allocation import JobDemand, JobOption, Plan, Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.policy.goodput.policy import GoodputPolicy
from meted.policy.goodput.program import Column, solve
from meted.policy.tiresias import TiresiasPolicy
from meted.testing.check_exclusive import check_exclusive_policy

POOL = Pool(
    devices=tuple(Device(index=one, kind="t4", node=one // 4) for one in range(8)),
    price=Price(nano_usd_per_device_hour=NanoUSD(350_000_000)),
    shared=False,
)


def make_job(name: str, *, steps: int, order: int = 0, counts: tuple[int, ...] = (1, 2, 4, 8)):
    return JobDemand(
        job=JobName(name),
        order=order,
        remaining_steps=steps,
        tokens_per_device_second=0.0,
        restart=Micros(30_000_000),
        options=tuple(
            JobOption(kind="t4", devices=one, steps_per_second=float(one**0.7)) for one in counts
        ),
    )


def decide(*jobs: JobDemand, previous: Plan | None = None) -> Plan:
    return GoodputPolicy().decide(
        Snapshot(now=Micros(0), pool=POOL, deployments=(), jobs=jobs, previous=previous)
    )


@pytest.mark.parametrize("policy", [GoodputPolicy(), TiresiasPolicy()])
def test_goodput_and_tiresias_keep_the_laws_of_exclusive_pools(
    policy: GoodputPolicy | TiresiasPolicy,
) -> None:
    check_exclusive_policy(policy)


def test_a_lone_job_gets_all_that_speeds_it_up() -> None:
    assert len(decide(make_job("a", steps=100_000)).jobs[0].devices) == 8


def test_equal_jobs_share_equally_each_on_one_node() -> None:
    plan = decide(make_job("a", steps=9_000), make_job("b", steps=9_000, order=1))
    assert [len({one // 4 for one in job.devices}) for job in plan.jobs] == [1, 1]
    assert [len(job.devices) for job in plan.jobs] == [4, 4]


def test_a_job_about_to_end_is_not_restarted_for_a_gain_smaller_than_the_restart() -> None:
    first = decide(make_job("a", steps=9_000), make_job("b", steps=9_000, order=1))
    alone = replace(make_job("a", steps=60), running=True)
    kept = decide(alone, previous=first)
    assert kept.jobs[0].devices == first.jobs[0].devices


def test_the_solution_is_feasible_and_close_to_its_bound() -> None:
    rng = np.random.default_rng(3)
    columns = [
        Column(job=job, kind="t4", devices=n, value=float(weight * n**bend))
        for job, (weight, bend) in enumerate(rng.uniform((0.5, 0.3), (2, 0.9), (20, 2)))
        for n in range(1, 9)
    ]
    found = solve(columns, {"t4": 37}, seconds=1.0)
    chosen = [columns[one] for one in found.chosen]
    assert sum(one.devices for one in chosen) <= 37
    assert len({one.job for one in chosen}) == len(chosen)
    assert found.value <= found.bound + 1e-9
    assert found.gap < 0.01


def test_the_integer_program_finds_what_rounding_misses() -> None:
    columns = [
        Column(job=0, kind="t4", devices=2, value=3.0),
        Column(job=1, kind="t4", devices=3, value=4.0),
    ]
    assert solve(columns, {"t4": 3}, seconds=1.0).value == 4.0


def test_in_tiresias_who_attained_much_goes_behind_who_came_later() -> None:
    old = replace(
        make_job("old", steps=9_000, counts=(8,)), attained={"t4": Micros(17 * 3_600_000_000)}
    )
    new = make_job("new", steps=9_000, order=1, counts=(8,))
    snapshot = Snapshot(now=Micros(0), pool=POOL, deployments=(), jobs=(old, new))
    assert [one.job for one in TiresiasPolicy().decide(snapshot).jobs] == ["new"]
