"""How many replicas: never outside the bounds, warm while it pays, and no flapping."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.allocation import DeploymentDemand
from meted.domain.units import Micros
from meted.policy.allocation.scaling import Scaling
from meted.testing.builders import make_demand

SCALING = Scaling(busy_above=0.8, hysteresis=0.2, queue=8, keep_warm_s=60)


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
        make_demand(utilisation=utilisation, queued=queued, running=running),
        replicas=ready,
        starting=starting,
        least=least,
        most=most,
        quiet=Micros(round(quiet_s * 1e6)),
    )


def wanted(one: DeploymentDemand) -> int:
    return SCALING.wanted(one)[0]


def test_a_quiet_deployment_is_unloaded_after_its_keep_warm_time_and_not_before() -> None:
    assert wanted(demand(quiet_s=59)) == 1
    assert wanted(demand(quiet_s=60)) == 0


def test_what_must_have_a_replica_keeps_it_however_quiet() -> None:
    assert wanted(demand(least=1, quiet_s=1e6)) == 1


def test_a_request_starts_what_was_unloaded_and_a_forecast_alone_does_not() -> None:
    assert wanted(demand(ready=0, queued=1)) == 1
    assert wanted(demand(ready=0, utilisation=0.3, quiet_s=600)) == 0


def test_a_replica_that_starts_is_not_started_again() -> None:
    assert wanted(demand(ready=0, starting=1, queued=5)) == 1


def test_a_long_queue_and_a_busy_forecast_want_more() -> None:
    assert wanted(demand(ready=1, queued=17)) == 3
    assert wanted(demand(ready=1, utilisation=1.7)) == 3


def test_a_load_between_the_limits_changes_nothing() -> None:
    between = 1.4
    assert wanted(demand(ready=2, utilisation=between)) == 2
    assert wanted(demand(ready=3, utilisation=between)) == 3
    assert wanted(demand(ready=3, utilisation=1.1)) == 2


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
    settled = replace(one, replicas=count, starting=0)
    again = wanted(settled)
    assert wanted(replace(settled, replicas=again)) == again


def test_limits_that_cannot_be_are_named() -> None:
    with pytest.raises(ValueError, match="scale_hysteresis"):
        Scaling(busy_above=0.5, hysteresis=0.5, queue=1, keep_warm_s=0)
    with pytest.raises(ValueError, match="keep_warm_s -1"):
        Scaling(busy_above=0.5, hysteresis=0.1, queue=1, keep_warm_s=-1)
