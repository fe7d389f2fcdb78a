"""What every allocation policy must keep, built in or not."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from meted.domain.allocation import Harvest, Plan, Snapshot
from meted.policy.protocol import Policy
from meted.testing.builders import (
    make_demand,
    make_job_demand,
    make_pool,
    make_predicted,
    make_snapshot,
)


def snapshots() -> Iterator[Snapshot]:
    """A spread of situations: empty, idle, loaded, overloaded, one to eight devices."""
    for devices in (1, 2, 8):
        pool = make_pool(devices=devices)
        for utilisation in (0.0, 0.2, 0.6, 1.0):
            for queued in (0, 3, 50):
                predicted = tuple(
                    make_predicted(level, ttft_ms=round(ttft * (1 + 5 * utilisation)))
                    for level, ttft in (
                        (Harvest.NONE, 200),
                        (Harvest.GAPS, 220),
                        (Harvest.IDLE, 400),
                    )
                )
                demands = [
                    make_demand(
                        name,
                        rate=utilisation * 4,
                        utilisation=utilisation,
                        queued=queued,
                        predicted=predicted,
                    )
                    for name in ("a", "b")
                ]
                jobs = tuple(make_job_demand(name, order=i) for i, name in enumerate("xy"))
                yield make_snapshot(pool=pool)
                yield make_snapshot(*demands, pool=pool)
                yield make_snapshot(jobs=jobs, pool=pool)
                yield make_snapshot(*demands, jobs=jobs, pool=pool)


def check_policy(policy: Policy, situations: Iterable[Snapshot] | None = None) -> None:
    """Raise AssertionError, naming the snapshot, if the policy breaks the protocol."""
    for snapshot in situations or snapshots():
        plan = policy.decide(snapshot)
        assert policy.decide(snapshot) == plan, f"equal snapshots, two plans: {snapshot}"
        _check_plan(snapshot, plan)
        again = policy.decide(replace(snapshot, previous=plan))
        settled = policy.decide(replace(snapshot, previous=again))
        assert settled == again, f"the plan flaps while nothing changes: {snapshot}"


def _check_plan(snapshot: Snapshot, plan: Plan) -> None:
    known = set(snapshot.pool.indices)
    served = [allocation.deployment for allocation in plan.replicas]
    assert sorted(served) == sorted(d.deployment for d in snapshot.deployments), (
        f"every deployment has one allocation: {snapshot}"
    )
    jobs = [allocation.job for allocation in plan.jobs]
    assert len(set(jobs)) == len(jobs) and set(jobs) <= {job.job for job in snapshot.jobs}
    for demand, allocation in zip(snapshot.deployments, plan.replicas, strict=True):
        assert demand.least <= len(allocation.places) <= demand.most
        assert all(place and set(place) <= known for place in allocation.places)
    for allocation in plan.jobs:
        assert allocation.devices and set(allocation.devices) <= known
        assert 1 <= allocation.threads <= len(known)
    for allocation in (*plan.replicas, *plan.jobs, *plan.waiting):
        assert any(character.isdigit() for character in allocation.reason), (
            f"a reason has numbers: {allocation.reason!r}"
        )
