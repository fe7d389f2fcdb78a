"""One policy, two worlds: the house and the simulator decide the same at the same moments.

The house is the real one, with its control loop, queue, meter and books; only the clock and the
processes are played. The simulator runs the same trace. What is compared is every effect of control
on a worker: kind, name, devices, way of harvesting and moment, to the microsecond; when each
request ended; and all that a policy saw of the deployment at each decision. What is counted is
equal; what is fitted is nearly so, because the house fits to each step and the simulator to a few
of them. Both begin with the same step time. Reasons are not compared: they hold fitted numbers.

A simulated step that completes a prompt makes its first token for nothing, and the house's report
counts it as decoded. Where decoding costs nothing the fits agree; elsewhere the house's cannot be
exact, and what is fitted differs more.
"""

from pathlib import Path
from typing import Any

import pytest
from played_house import lived
from two_worlds import Case, make_trace, simulated

from meted.domain.allocation import DeploymentDemand
from meted.policy.allocation.demand import DemandPolicy
from meted.policy.allocation.performance import PerformancePolicy

COUNTED = ("replicas", "queued", "running", "starting", "draining", "least", "most", "quiet")
RATES = ("arrivals_per_second", "tokens_per_second")

CASES = {
    "demand": Case(policy=DemandPolicy(), harvests=frozenset({"none", "gaps", "idle"})),
    "demand, always one": Case(
        policy=DemandPolicy(), harvests=frozenset({"none", "gaps", "idle"}), least=1
    ),
    "demand, soon unloaded": Case(
        policy=DemandPolicy(keep_warm_s=12, scale_window_s=5),
        harvests=frozenset({"none", "gaps", "idle"}),
        drains_at_work=True,
    ),
    "performance": Case(
        policy=PerformancePolicy(), harvests=frozenset({"gaps", "idle"}), ttft_ms=100
    ),
    "demand, a first token that costs nothing": Case(
        policy=DemandPolicy(),
        harvests=frozenset({"none", "gaps", "idle"}),
        decode=500,
        near=0.15,
    ),
}


def assert_seen_alike(
    lived: DeploymentDemand, simulated: DeploymentDemand, at: int, *, near: float
) -> None:
    """What the policy saw in both worlds at decision number `at`."""

    def about(value: float) -> Any:
        return pytest.approx(value, rel=near, abs=1e-9)

    for name in COUNTED:
        assert getattr(lived, name) == getattr(simulated, name), f"{name} at {at} s"
    for name in RATES:
        assert getattr(lived, name) == pytest.approx(getattr(simulated, name)), f"{name} at {at} s"
    assert lived.utilisation == about(simulated.utilisation), f"utilisation at {at} s"
    for mine, other in zip(lived.predicted, simulated.predicted, strict=True):
        assert (mine.harvest, mine.samples) == (other.harvest, other.samples), f"at {at} s"
        assert mine.ttft_p95 == about(other.ttft_p95), f"TTFT beside {mine.harvest} at {at} s"
        assert mine.tpot_p95 == about(other.tpot_p95), f"TPOT beside {mine.harvest} at {at} s"
    (mine,), (other,) = lived.options, simulated.options
    assert (mine.kind, mine.devices, mine.load) == (other.kind, other.devices, other.load)
    assert mine.requests_per_second == about(other.requests_per_second), f"capacity at {at} s"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CASES)
async def test_the_house_and_the_simulator_decide_the_same_at_the_same_moments(
    name: str, seed: int, tmp_path: Path
) -> None:
    case, trace = CASES[name], make_trace(seed)
    expected = simulated(case, trace)
    kinds = {one[1] for one in expected.rows}
    assert {"StartReplica", "DrainReplica", "StopReplica", "StartJob", "PlaceJob"} <= kinds
    assert case.harvests <= {one[4] for one in expected.rows if one[1] == "PlaceJob"}
    assert max(one.replicas for one in expected.seen) == 2
    assert (0 in {one.replicas for one in expected.seen[100:]}) == (case.least == 0)
    assert any(one.draining for one in expected.seen) >= case.drains_at_work
    found = await lived(case, trace, tmp_path)
    assert found.rows == expected.rows
    assert found.ends == expected.ends
    assert len(found.seen) == len(expected.seen)
    for at, (mine, other) in enumerate(zip(found.seen, expected.seen, strict=True)):
        assert_seen_alike(mine, other, at, near=case.near)
