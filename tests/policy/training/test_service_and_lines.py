"""Laws of lines: arrival, priority, least service, and work done by a horizon."""

from dataclasses import replace

import pytest

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.domain.pool import Pool
from meted.domain.units import Micros
from meted.policy.protocol import Policy
from meted.policy.training.cheapest import CheapestPolicy
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.las import LasPolicy
from meted.policy.training.makespan import MakespanPolicy
from meted.policy.training.max_min import MaxMinPolicy
from meted.policy.training.priority import PriorityPolicy
from meted.testing.check_exclusive import make_exclusive_job, make_exclusive_pool

HOUR = 3_600_000_000
FAST = (("fast", 10.0),)


def ask(policy: Policy, pool: Pool, *jobs: JobDemand, before: Plan | None = None) -> Plan:
    return policy.decide(
        Snapshot(now=Micros(0), pool=pool, deployments=(), jobs=jobs, previous=before)
    )


def given(plan: Plan) -> set[str]:
    return {one.job for one in plan.jobs}


def test_fifo_does_not_let_a_narrow_job_pass_one_too_wide() -> None:
    pool = make_exclusive_pool(fast=3)
    first = make_exclusive_job("first", order=0, devices=2, paces=FAST)
    wide = make_exclusive_job("wide", order=1, devices=2, paces=FAST)
    narrow = make_exclusive_job("narrow", order=2, paces=FAST)
    assert given(ask(FifoPolicy(), pool, first, wide, narrow)) == {"first"}
    assert given(ask(FifoPolicy(overtake=1), pool, first, wide, narrow)) == {"first", "narrow"}


def test_fifo_lets_jobs_pass_one_that_cannot_use_what_is_left() -> None:
    pool = make_exclusive_pool(fast=1, slow=1)
    jobs = [make_exclusive_job(f"f{n}", order=n, paces=FAST) for n in range(2)]
    last = make_exclusive_job("any", order=2)
    assert given(ask(FifoPolicy(), pool, *jobs, last)) == {"f0", "any"}


def test_the_higher_priority_goes_first() -> None:
    pool = make_exclusive_pool(fast=1)
    low = make_exclusive_job("low", order=0, paces=FAST)
    high = make_exclusive_job("high", order=1, paces=FAST, priority=1)
    assert given(ask(PriorityPolicy(), pool, low, high)) == {"high"}


def test_whoever_received_least_goes_first() -> None:
    pool = make_exclusive_pool(fast=1)
    rich = make_exclusive_job("rich", order=0, paces=FAST, attained={"fast": Micros(2 * HOUR)})
    poor = make_exclusive_job("poor", order=1, paces=FAST, attained={"fast": Micros(HOUR)})
    assert given(ask(LasPolicy(), pool, rich, poor)) == {"poor"}


def test_an_hour_on_an_old_device_counts_for_what_it_costs() -> None:
    pool = make_exclusive_pool(fast=1)
    old = make_exclusive_job("old", order=0, paces=FAST, attained={"slow": Micros(3 * HOUR)})
    new = make_exclusive_job("new", order=1, paces=FAST, attained={"fast": Micros(2 * HOUR)})
    pool = replace(pool, prices=make_exclusive_pool(fast=1, slow=1).prices)
    assert given(ask(LasPolicy(), pool, old, new)) == {"new"}
    assert given(ask(LasPolicy(by_price=1), pool, old, new)) == {"old"}


def test_equal_jobs_take_turns_on_one_device() -> None:
    pool = make_exclusive_pool(fast=1)
    attained = {"a": 0, "b": 0, "c": 0}
    plan: Plan | None = None
    for number in range(1, 31):
        jobs = [
            make_exclusive_job(
                name, order=n, paces=FAST, attained={"fast": Micros(attained[name] * HOUR // 10)}
            )
            for n, name in enumerate(attained)
        ]
        snapshot = Snapshot(
            now=Micros(number * HOUR // 10),
            pool=pool,
            deployments=(),
            jobs=tuple(jobs),
            previous=plan,
        )
        plan = MaxMinPolicy().decide(snapshot)
        attained[plan.jobs[0].job] += 1
    assert attained == {"a": 10, "b": 10, "c": 10}


def test_the_makespan_is_that_of_the_divisible_bound() -> None:
    """Three hours of work on two devices: the long job must not wait."""
    pool = make_exclusive_pool(fast=2)
    long = make_exclusive_job("long", order=2, hours=2, paces=FAST)
    short = [make_exclusive_job(f"s{n}", order=n, hours=1, paces=FAST) for n in range(2)]
    plan = ask(MakespanPolicy(), pool, *short, long)
    assert "long" in given(plan)
    assert "all done in 2.00 h, in time" in plan.jobs[0].reason


def test_more_time_is_used_to_spend_less() -> None:
    pool = make_exclusive_pool(fast=1, slow=1)
    job = make_exclusive_job("j", hours=2, paces=(("fast", 10.0), ("slow", 5.0)))
    assert ask(CheapestPolicy(makespan_factor=1.0), pool, job).jobs[0].devices == (0,)
    assert ask(CheapestPolicy(makespan_factor=2.0), pool, job).jobs[0].devices == (1,)


def test_a_makespan_factor_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"makespan_factor is 0\.5"):
        CheapestPolicy(makespan_factor=0.5)


def test_what_more_would_cost_is_told() -> None:
    pool = make_exclusive_pool(fast=1, slow=1)
    jobs = [make_exclusive_job(f"j{n}", order=n) for n in range(3)]
    plan = ask(FifoPolicy(), pool, *jobs)
    assert "1 x slow, 10.00 h left, $1.35" in plan.jobs[1].reason
    assert "1 x fast would end 8.00 h earlier for $0.13 more" in plan.jobs[1].reason
    assert "1 of 1 are with 1 jobs" in plan.jobs[1].reason
    assert "would end it in 10.00 h for $1.35" in plan.waiting[0].reason
