"""Allocation policies: the conformance check, and what each one is for."""

from dataclasses import replace

import pytest

from meted.domain.allocation import Harvest, Plan
from meted.policy.allocation import POLICIES, make_policy
from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.policy.allocation.static import StaticPolicy
from meted.testing.builders import (
    make_demand,
    make_job_demand,
    make_pool,
    make_predicted,
    make_snapshot,
)
from meted.testing.check_policy import check_policy

JOB = make_job_demand()


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_built_in_policy_keeps_the_protocol(name: str) -> None:
    check_policy(make_policy(name))


def harvest(plan: Plan) -> Harvest:
    return plan.jobs[0].harvest


def test_an_unknown_policy_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'fair'; expected one of .*static"):
        make_policy("fair")


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="speed"):
        make_policy("demand", {"speed": 1.0})


def test_static_splits_whatever_the_demand() -> None:
    plan = StaticPolicy().decide(make_snapshot(make_demand(utilisation=1.0), jobs=(JOB,)))
    assert plan.replicas[0].places == ((0,),)
    assert plan.jobs[0].devices == (1,)
    assert harvest(plan) is Harvest.SHARE


def test_static_leaves_devices_idle_without_a_job() -> None:
    assert StaticPolicy().decide(make_snapshot(make_demand())).idle_devices == (1,)


def test_static_on_one_device_does_not_train() -> None:
    snapshot = make_snapshot(make_demand(), jobs=(JOB,), pool=make_pool(devices=1))
    assert harvest(StaticPolicy().decide(snapshot)) is Harvest.NONE


@pytest.mark.parametrize(
    ("utilisation", "queued", "expected"),
    [(0.0, 0, Harvest.IDLE), (0.5, 0, Harvest.GAPS), (0.97, 0, Harvest.NONE), (0, 9, Harvest.NONE)],
)
def test_demand_gives_way_as_load_grows(utilisation: float, queued: int, expected: Harvest) -> None:
    policy = DemandPolicy(gaps_above=0.3, pause_above=0.9)
    snapshot = make_snapshot(make_demand(utilisation=utilisation, queued=queued), jobs=(JOB,))
    assert harvest(policy.decide(snapshot)) is expected


def test_demand_does_not_flap_around_its_limit() -> None:
    policy = DemandPolicy(gaps_above=0.3, pause_above=0.9, hysteresis=0.05)
    above = make_snapshot(make_demand(utilisation=0.31), jobs=(JOB,))
    below = make_snapshot(make_demand(utilisation=0.28), jobs=(JOB,))
    plan = policy.decide(above)
    assert harvest(plan) is Harvest.GAPS
    assert harvest(policy.decide(replace(below, previous=plan))) is Harvest.GAPS


def serving(none: int, gaps: int, idle: int):
    return make_demand(
        utilisation=0.4,
        predicted=(
            make_predicted(Harvest.NONE, ttft_ms=none),
            make_predicted(Harvest.GAPS, ttft_ms=gaps),
            make_predicted(Harvest.IDLE, ttft_ms=idle),
        ),
    )


def test_performance_takes_the_most_tokens_inside_the_slo() -> None:
    policy = PerformancePolicy()
    loose = make_snapshot(serving(200, 250, 500), jobs=(JOB,))
    tight = make_snapshot(serving(200, 250, 1500), jobs=(JOB,))
    assert harvest(policy.decide(loose)) is Harvest.IDLE
    assert harvest(policy.decide(tight)) is Harvest.GAPS


def test_performance_does_not_pause_a_trainer_that_is_not_the_cause() -> None:
    overloaded = make_snapshot(serving(3000, 3010, 4000), jobs=(JOB,))
    assert harvest(PerformancePolicy().decide(overloaded)) is Harvest.GAPS


def test_performance_says_tokens_per_dollar_in_its_reason() -> None:
    plan = PerformancePolicy().decide(make_snapshot(serving(200, 250, 500), jobs=(JOB,)))
    assert "tokens/$" in plan.jobs[0].reason
