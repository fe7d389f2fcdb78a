"""Laws of deadlines: one that cannot be kept costs nobody else."""

from dataclasses import replace

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.domain.pool import Pool
from meted.domain.units import Micros
from meted.policy.training.cheapest import CheapestPolicy
from meted.policy.training.deadlines import DeadlinesPolicy
from meted.testing.check_exclusive import make_exclusive_job, make_exclusive_pool

HOUR = 3_600_000_000


def decide(pool: Pool, *jobs: JobDemand, now: int = 0) -> Plan:
    snapshot = Snapshot(now=Micros(now), pool=pool, deployments=(), jobs=jobs)
    return DeadlinesPolicy().decide(snapshot)


def given(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {one.job: one.devices for one in plan.jobs}


def test_a_lost_deadline_leaves_the_others_as_they_were_without_it() -> None:
    pool = make_exclusive_pool(fast=2)
    paces = (("fast", 10.0),)
    urgent = [
        make_exclusive_job(f"u{n}", order=n, hours=2, paces=paces, deadline_hours=2.3)
        for n in range(2)
    ]
    lost = make_exclusive_job("lost", order=9, hours=8, paces=paces, deadline_hours=1.0)
    without = decide(pool, *urgent)
    plan = decide(pool, *urgent, lost)
    assert given(plan) == given(without)
    assert set(given(plan)) == {"u0", "u1"}
    assert "2 of 3 deadlines can be kept" in plan.waiting[0].reason
    assert "is lost" in plan.waiting[0].reason


def test_a_lost_deadline_is_served_where_there_is_room() -> None:
    lost = make_exclusive_job("lost", hours=8, deadline_hours=1.0)
    assert set(given(decide(make_exclusive_pool(fast=1), lost))) == {"lost"}


def test_a_tight_deadline_goes_before_a_short_job() -> None:
    paces = (("fast", 10.0),)
    tight = make_exclusive_job("tight", order=1, hours=4, paces=paces, deadline_hours=4.2)
    short = make_exclusive_job("short", order=0, hours=0.5, paces=paces)
    assert set(given(decide(make_exclusive_pool(fast=1), short, tight))) == {"tight"}


def test_a_far_deadline_lets_a_short_job_go_first() -> None:
    paces = (("fast", 10.0),)
    far = make_exclusive_job("far", order=0, hours=4, paces=paces, deadline_hours=40)
    short = make_exclusive_job("short", order=1, hours=0.5, paces=paces)
    assert set(given(decide(make_exclusive_pool(fast=1), far, short))) == {"short"}


def test_only_as_many_deadlines_are_promised_as_fit() -> None:
    paces = (("fast", 10.0),)
    jobs = [
        make_exclusive_job(f"j{n}", order=n, hours=2, paces=paces, deadline_hours=4.5)
        for n in range(4)
    ]
    plan = decide(make_exclusive_pool(fast=1), *jobs)
    assert "2 of 4 deadlines can be kept" in plan.jobs[0].reason


def test_a_deadline_moves_a_job_to_dearer_devices_only_when_it_must() -> None:
    paces = (("fast", 10.0), ("slow", 5.0))
    pool = make_exclusive_pool(fast=1, slow=1)
    policy = CheapestPolicy(usd_per_hour=0.01)
    for hours, kind in ((2.5, 0), (12.0, 1)):
        job = make_exclusive_job("j", hours=2, paces=paces, deadline_hours=hours)
        snapshot = Snapshot(now=Micros(0), pool=pool, deployments=(), jobs=(job,))
        assert policy.decide(snapshot).jobs[0].devices == (kind,)


def test_devices_that_are_dear_for_what_they_bring_are_parked() -> None:
    paces = (("fast", 2.1), ("slow", 2.0))
    job = make_exclusive_job("j", hours=2, paces=paces)
    snapshot = Snapshot(
        now=Micros(0), pool=make_exclusive_pool(fast=2, slow=1), deployments=(), jobs=(job,)
    )
    plan = CheapestPolicy(usd_per_hour=0.1).decide(snapshot)
    assert plan.jobs[0].devices == (2,)
    assert plan.parked_devices == (0, 1)
    kept_on = replace(snapshot, pool=make_exclusive_pool(fast=2, slow=1, parked=None))
    assert CheapestPolicy(usd_per_hour=0.1).decide(kept_on).parked_devices == ()


def test_a_job_near_its_deadline_ends_before_it_with_room_for_whole_rounds() -> None:
    paces = (("fast", 10.0),)
    near = make_exclusive_job("near", order=1, hours=1, paces=paces, deadline_hours=1.2)
    other = make_exclusive_job("other", order=0, hours=1, paces=paces, deadline_hours=2.5)
    plan = decide(make_exclusive_pool(fast=1), other, near)
    assert set(given(plan)) == {"near"}
    assert "2 of 2" in plan.jobs[0].reason
    assert plan.jobs[0].ends == HOUR
