"""A budget is spent evenly, and never overrun."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.allocation import Plan, ReplicaOption, Snapshot, TenantBudget
from meted.domain.units import Micros, NanoUSD, TenantName
from meted.policy.serving.pacing import HIGHEST, LOWEST, allowed, next_price
from meted.policy.sharing.paced import BudgetPaced
from meted.testing.builders import make_demand
from meted.testing.check_exclusive import (
    check_exclusive_policy,
    make_exclusive_job,
    make_exclusive_pool,
)

HOUR = 3_600_000_000
STEP = 300_000_000
TENANT = TenantName("lab")
OPTION = ReplicaOption(kind="fast", devices=1, requests_per_second=1.0, load=Micros(60_000_000))


def budget(limit: float, spent: float = 0.0) -> TenantBudget:
    return TenantBudget(
        tenant=TENANT,
        limit=NanoUSD(round(limit * 1e9)),
        spent=NanoUSD(round(spent * 1e9)),
        begins=Micros(0),
        ends=Micros(24 * HOUR),
    )


def snapshot(now: int, rate: float, one: TenantBudget, previous: Plan | None = None) -> Snapshot:
    demand = replace(
        make_demand("m", rate=rate, queued=0),
        tenant=TENANT,
        running=0,
        least=0,
        most=8,
        options=(OPTION,),
    )
    job = replace(make_exclusive_job("j", hours=99.0, paces=(("fast", 10.0),)), tenant=TENANT)
    return Snapshot(
        now=Micros(now),
        pool=make_exclusive_pool(per_node=4, fast=8),
        deployments=(demand,),
        jobs=(job,),
        previous=previous,
        budgets=(one,),
    )


def spend_a_day(limit: float, rates: list[float]) -> list[float]:
    """US dollars spent after each interval of a day."""
    spent, plan, course = 0.0, None, list[float]()
    for tick, rate in enumerate(rates):
        plan = BudgetPaced().decide(snapshot(tick * STEP, rate, budget(limit, spent), plan))
        devices = len(plan.replicas[0].places) + sum(len(job.devices) for job in plan.jobs)
        spent += devices * 0.74 * STEP / HOUR
        course.append(spent)
    return course


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [3.0, 20.0, 60.0])
def test_no_budget_is_overrun_whatever_is_asked(seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.0, 7.0, size=24 * 12).tolist()
    assert spend_a_day(limit, rates)[-1] <= limit


def test_half_the_day_leaves_about_half_of_the_budget() -> None:
    course = spend_a_day(40.0, [6.0] * (24 * 12))
    assert course[len(course) // 2] == pytest.approx(20.0, rel=0.15)
    assert course[-1] > 0.9 * 40.0


def test_who_spends_faster_than_its_pace_gets_less() -> None:
    price = 1.0
    for _ in range(3):
        price = next_price(price, spent=200.0, target=100.0, step=0.5)
    now = Micros(HOUR)
    dear = allowed(budget(40.0), now, price, Micros(STEP))
    assert price > 4 and dear < allowed(budget(40.0), now, 1.0, Micros(STEP)) / 4
    assert next_price(price, spent=0.0, target=100.0, step=0.5) < price
    assert LOWEST <= price <= HIGHEST


def test_outside_its_period_a_budget_pays_nothing() -> None:
    plan = BudgetPaced().decide(snapshot(25 * HOUR, 5.0, budget(40.0)))
    assert plan.replicas[0].places == () and plan.jobs == ()
    assert "the budget of lab pays 0" in plan.replicas[0].reason
    assert "pays $0.00 an hour now" in plan.waiting[0].reason


def test_it_keeps_the_protocol_of_exclusive_pools() -> None:
    check_exclusive_policy(BudgetPaced(), [snapshot(HOUR, 3.0, budget(40.0))])
    check_exclusive_policy(BudgetPaced())
