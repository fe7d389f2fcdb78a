"""Every policy that shares an exclusive pool keeps the protocol and its own promise."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from meted.domain.allocation import (
    DeploymentDemand,
    JobDemand,
    Plan,
    ReplicaOption,
    Snapshot,
)
from meted.domain.units import Micros
from meted.policy.protocol import Policy
from meted.policy.serving.demand_based import DemandScaling
from meted.policy.serving.dynamo import DynamoPlanner
from meted.policy.serving.kubernetes import KubernetesHpa
from meted.policy.serving.performance_based import PerformanceScaling
from meted.policy.serving.static_split import StaticSplit
from meted.policy.sharing.loan import Loan
from meted.testing.builders import make_demand
from meted.testing.check_exclusive import (
    check_exclusive_policy,
    exclusive_snapshots,
    make_exclusive_job,
    make_exclusive_pool,
)

POLICIES: tuple[Policy, ...] = (
    DemandScaling(),
    PerformanceScaling(),
    KubernetesHpa(),
    DynamoPlanner(),
    StaticSplit(replicas=2),
    Loan(),
    Loan(order="arrival", overtake=0),
    Loan(order="least_served"),
)
SECOND = 1_000_000


def option(kind: str, devices: int, rate: float) -> ReplicaOption:
    return ReplicaOption(
        kind=kind, devices=devices, requests_per_second=rate, load=Micros(60 * SECOND)
    )


OPTIONS = (option("fast", 1, 2.0), option("middle", 1, 1.0), option("slow", 1, 0.4))


def wanting(
    rate: float, *, queued: int = 0, replicas: int = 0, least: int = 1, options=OPTIONS
) -> DeploymentDemand:
    return replace(
        make_demand("m", rate=rate, queued=queued),
        replicas=replicas,
        running=0,
        least=least,
        most=6,
        options=options,
    )


def with_serving() -> Iterator[Snapshot]:
    for number, snapshot in enumerate(exclusive_snapshots()):
        yield snapshot
        rate = (0.0, 1.5, 9.0)[number % 3]
        yield replace(snapshot, deployments=(wanting(rate, least=number % 2),))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda one: type(one).__name__)
def test_it_keeps_the_protocol_of_exclusive_pools(policy: Policy) -> None:
    check_exclusive_policy(policy, with_serving())


def snapshot_of(
    demand: DeploymentDemand,
    jobs: list[JobDemand],
    previous: Plan | None = None,
    at_s: float = 0.0,
    **devices: int,
) -> Snapshot:
    return Snapshot(
        now=Micros(round(at_s * SECOND)),
        pool=make_exclusive_pool(per_node=4, **(devices or {"fast": 4})),
        deployments=(demand,),
        jobs=tuple(jobs),
        previous=previous,
    )


def fast_jobs(count: int) -> list[JobDemand]:
    return [
        make_exclusive_job(f"j{n}", order=n, hours=1.0 + n, paces=(("fast", 10.0),))
        for n in range(count)
    ]


def test_what_serving_does_not_need_is_lent_and_comes_back_when_it_does() -> None:
    jobs = fast_jobs(4)
    calm = Loan(spare=0).decide(snapshot_of(wanting(1.0), jobs))
    assert len(calm.replicas[0].places) == 1 and len(calm.jobs) == 3
    busy = Loan(spare=0).decide(
        snapshot_of(wanting(4.0, replicas=1), [replace(one, running=True) for one in jobs], calm)
    )
    assert calm.replicas[0].places[0] in busy.replicas[0].places
    assert len(busy.replicas[0].places) == 3 and len(busy.jobs) == 1
    assert "2 jobs stop for it" in busy.replicas[0].reason
    assert busy.jobs[0] == replace(busy.jobs[0], devices=calm.job(busy.jobs[0].job).devices)  # type: ignore[union-attr]


def test_a_static_split_lends_nothing() -> None:
    plan = StaticSplit(replicas=3).decide(snapshot_of(wanting(0.1), fast_jobs(4)))
    assert len(plan.replicas[0].places) == 3 and len(plan.jobs) == 1
    assert plan.jobs[0].job == "j0"


def test_the_mix_is_of_the_cheap_kind_where_it_is_enough() -> None:
    plan = PerformanceScaling(busy=1.0).decide(
        snapshot_of(wanting(0.8), [], fast=2, middle=2, slow=3)
    )
    # Two slow ones cost $0.27 an hour, one middle $0.43, one fast $0.74.
    pool = make_exclusive_pool(per_node=4, fast=2, middle=2, slow=3)
    kinds = {one.index: one.kind for one in pool.devices}
    assert [kinds[place[0]] for place in plan.replicas[0].places] == ["slow", "slow"]


def test_an_option_outside_the_slo_is_never_used() -> None:
    late = replace(OPTIONS[0], ttft_p95=Micros(10**12))
    with pytest.raises(ValueError, match="none of 1 options keeps its SLO"):
        Loan().decide(snapshot_of(wanting(1.0, options=(late,)), []))


def test_nobody_asks_and_the_last_replica_goes_when_it_has_cost_a_cold_start() -> None:
    quiet = wanting(0.0, least=0)
    first = Loan(spare=0).decide(snapshot_of(wanting(1.0, least=0), []))
    assert len(first.replicas[0].places) == 1
    kept = replace(quiet, replicas=1, quiet=Micros(30 * SECOND))
    gone = replace(quiet, replicas=1, quiet=Micros(61 * SECOND))
    assert len(Loan(spare=0).decide(snapshot_of(kept, [], first, 700.0)).replicas[0].places) == 1
    assert len(Loan(spare=0).decide(snapshot_of(gone, [], first, 731.0)).replicas[0].places) == 0


def test_a_later_job_goes_before_one_that_does_not_fit_only_where_it_delays_nothing() -> None:
    long = make_exclusive_job("long", order=0, hours=9.0, devices=3, paces=(("fast", 10.0),))
    wide = make_exclusive_job("wide", order=1, hours=1.0, devices=4, paces=(("fast", 10.0),))
    short = make_exclusive_job("short", order=2, hours=1.0, paces=(("fast", 10.0),))
    longer = make_exclusive_job("longer", order=3, hours=99.0, paces=(("fast", 10.0),))
    first = Loan(order="arrival").decide(snapshot_of(wanting(0.0, least=0), [long, wide, longer]))
    assert [one.job for one in first.jobs] == ["long"]
    second = Loan(order="arrival").decide(
        snapshot_of(wanting(0.0, least=0), [long, wide, short, longer], first)
    )
    assert [one.job for one in second.jobs] == ["long", "short"]


def ready(rate: float, *, replicas: int, queued: int = 0) -> DeploymentDemand:
    return wanting(rate, replicas=replicas, queued=queued)


def test_the_autoscaler_does_as_kubernetes_documents() -> None:
    hpa = KubernetesHpa(target=0.5)
    before = StaticSplit(replicas=2).decide(snapshot_of(ready(1.0, replicas=2), []))

    def pods(rate: float, *, of: int = 2, at_s: float = 15.0) -> int:
        snapshot = snapshot_of(ready(rate, replicas=of), [], before, at_s, fast=8)
        return len(hpa.decide(snapshot).replicas[0].places)

    # The target is 1 request/s a pod.
    assert pods(2.15) == 2, "inside the tolerance of 10 %"
    assert pods(2.9) == 3
    assert pods(1.0) == 1
    # One of two is ready and has 2.9 times its target; with the other at 0 that is 1.45 each.
    assert pods(2.9, of=1) == 3
    assert pods(1.5, of=1) == 2, "unready pods would turn the direction"
    assert pods(1.15, of=1) == 2


def test_the_autoscaler_waits_five_minutes_to_scale_down() -> None:
    hpa = KubernetesHpa(target=0.5)
    plan = hpa.decide(snapshot_of(ready(1.0, replicas=1), [], None, 0.0, fast=8))
    counts: list[int] = []
    for tick, rate in enumerate((4.0, *[1.0] * 30)):
        here = len(plan.replicas[0].places)
        plan = hpa.decide(
            snapshot_of(ready(rate, replicas=here), [], plan, 15.0 * (tick + 1), fast=8)
        )
        counts.append(len(plan.replicas[0].places))
    assert counts[0] == 4 and counts[20] == 4 and counts[21] == 1


def test_the_planner_of_dynamo_adjusts_at_its_interval_only() -> None:
    first = DynamoPlanner().decide(snapshot_of(ready(1.0, replicas=0), []))
    early = DynamoPlanner().decide(snapshot_of(ready(7.0, replicas=1), [], first, 100.0))
    late = DynamoPlanner().decide(snapshot_of(ready(7.0, replicas=1), [], early, 180.0))
    assert [len(one.replicas[0].places) for one in (first, early, late)] == [1, 1, 4]
