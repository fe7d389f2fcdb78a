"""How many replicas: never outside the bounds, warm while it pays, and no flapping."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.allocation import DeploymentDemand, ReplicaOption
from meted.domain.units import Micros
from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy
from meted.policy.allocation.scaling import Scaling
from meted.policy.serving.counting import Scale
from meted.testing.builders import make_demand, make_snapshot

SCALING = Scaling(scale=Scale(busy=0.8, hysteresis=0.2, drain_s=8, window_s=0), keep_warm_s=60)

ONE_PER_SECOND = ReplicaOption(kind="cpu-core", devices=2, requests_per_second=1.0, load=Micros(0))


def demand(
    *,
    ready: int = 1,
    starting: int = 0,
    least: int = 0,
    most: int = 4,
    utilisation: float = 0.0,
    queued: int = 0,
    running: int = 0,
    quiet_s: float = 0.0,
) -> DeploymentDemand:
    return replace(
        make_demand(utilisation=utilisation, rate=utilisation, queued=queued, running=running),
        options=(ONE_PER_SECOND,),
        replicas=ready,
        starting=starting,
        least=least,
        most=most,
        quiet=Micros(round(quiet_s * 1e6)),
    )


def wanted(one: DeploymentDemand) -> int:
    return SCALING.wanted(make_snapshot(one), one)[0]


def test_a_quiet_deployment_is_unloaded_after_its_keep_warm_time_and_not_before() -> None:
    assert wanted(demand(quiet_s=59)) == 1
    assert wanted(demand(quiet_s=60)) == 0


def test_what_must_have_a_replica_keeps_it_however_quiet() -> None:
    assert wanted(demand(least=1, quiet_s=1e6)) == 1


def test_a_request_starts_what_was_unloaded_and_a_forecast_alone_does_not() -> None:
    assert wanted(demand(ready=0, queued=1)) == 1
    assert wanted(demand(ready=0, utilisation=0.3, quiet_s=600)) == 0


def test_a_replica_that_starts_is_not_started_again() -> None:
    assert wanted(demand(ready=0, starting=1, queued=6)) == 1


def test_a_long_queue_and_a_busy_forecast_want_more() -> None:
    assert wanted(demand(ready=1, queued=17)) == 3
    assert wanted(demand(ready=1, utilisation=1.7)) == 3


@given(
    ready=st.integers(0, 9),
    starting=st.integers(0, 9),
    bounds=st.tuples(st.integers(0, 6), st.integers(1, 6)).map(sorted),
    utilisation=st.floats(0, 20),
    queued=st.integers(0, 200),
    running=st.integers(0, 50),
    quiet_s=st.floats(0, 1000),
)
def test_never_outside_the_bounds_and_settled_once_it_has_what_it_wanted(
    ready: int,
    starting: int,
    bounds: list[int],
    utilisation: float,
    queued: int,
    running: int,
    quiet_s: float,
) -> None:
    one = demand(
        ready=ready,
        starting=starting,
        least=bounds[0],
        most=bounds[1],
        utilisation=utilisation,
        queued=queued,
        running=running,
        quiet_s=quiet_s,
    )
    count = wanted(one)
    assert bounds[0] <= count <= bounds[1]
    again = wanted(replace(one, replicas=count, starting=0))
    assert bounds[0] <= again <= bounds[1]


@given(utilisation=st.floats(0.1, 20), queued=st.integers(0, 200))
def test_a_policy_that_scales_settles_while_nothing_changes(
    utilisation: float, queued: int
) -> None:
    one = demand(utilisation=utilisation, queued=queued, most=9)
    policy = DemandPolicy()
    snapshot = make_snapshot(one)
    plans = [policy.decide(snapshot)]
    for _ in range(4):
        plans.append(policy.decide(replace(snapshot, previous=plans[-1])))
    assert len({len(plan.replicas[0].places) for plan in plans[1:]}) == 1


def test_limits_that_cannot_be_are_named_when_the_policy_is_made() -> None:
    with pytest.raises(ValueError, match="hysteresis"):
        DemandPolicy(scale_above=0.5, scale_hysteresis=0.5)
    with pytest.raises(ValueError, match="keep_warm_s is -1"):
        PerformancePolicy(keep_warm_s=-1)
