"""What every policy must keep where a device has one user at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from meted.domain.allocation import Harvest, JobDemand, JobOption, Plan, Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.policy.protocol import Policy

HOUR = 3_600_000_000
PRICES = {"fast": 740_000_000, "middle": 430_000_000, "slow": 135_000_000}
"""Nano-USD per device-hour."""
ROUNDS = 2
ROUND = 360_000_000


def make_exclusive_pool(*, parked: int | None = 0, per_node: int = 2, **devices: int) -> Pool:
    """GPUs of several kinds, numbered in the order of the arguments. parked: nano-USD an hour."""
    kinds = [kind for kind, count in devices.items() for _ in range(count)]
    return Pool(
        devices=tuple(
            Device(index=index, kind=kind, node=index // per_node)
            for index, kind in enumerate(kinds)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(500_000_000)),
        prices={
            kind: Price(
                nano_usd_per_device_hour=NanoUSD(price),
                parked=None if parked is None else NanoUSD(parked),
            )
            for kind, price in PRICES.items()
        },
        shared=False,
    )


def make_exclusive_job(
    name: str,
    *,
    order: int = 0,
    hours: float = 2.0,
    devices: int = 1,
    paces: tuple[tuple[str, float], ...] = (("fast", 10.0), ("middle", 5.0), ("slow", 2.0)),
    deadline_hours: float | None = None,
    weight: float = 1.0,
    priority: int = 0,
    attained: dict[str, Micros] | None = None,
) -> JobDemand:
    """A job of `hours` on the first of its kinds. deadline_hours: after moment 0."""
    steps = max(1, round(hours * 3600 * paces[0][1]))
    return JobDemand(
        job=JobName(name),
        order=order,
        remaining_steps=steps,
        total_steps=steps,
        tokens_per_device_second=0.0,
        weight=weight,
        priority=priority,
        deadline=None if deadline_hours is None else Micros(round(deadline_hours * HOUR)),
        attained=attained or {},
        options=tuple(
            JobOption(kind=kind, devices=devices, steps_per_second=pace) for kind, pace in paces
        ),
    )


def exclusive_snapshots() -> Iterator[Snapshot]:
    """Empty, light and heavy load; jobs of one and several devices; deadlines; lost devices."""
    pools = (
        (make_exclusive_pool(fast=1), (3,)),
        (make_exclusive_pool(fast=2, middle=2, slow=4), (3, 12)),
        (make_exclusive_pool(fast=4, middle=4, parked=None, per_node=4), (12,)),
    )
    for pool, counts in pools:
        yield _snapshot(pool, ())
        for count in counts:
            plain = [
                make_exclusive_job(f"j{n:02}", order=n, hours=1.0 + n % 3) for n in range(count)
            ]
            yield _snapshot(pool, plain)
            yield _snapshot(pool, [_wide(job, n) for n, job in enumerate(plain)])
            yield _snapshot(pool, [_dated(job, n) for n, job in enumerate(plain)])
            yield _snapshot(pool, [_served(job, n) for n, job in enumerate(plain)])
            yield _snapshot(pool, plain, unavailable=frozenset(pool.indices[::2]))
        choosy = make_exclusive_job("choosy", order=0, paces=(("slow", 1.0),))
        yield _snapshot(pool, [choosy, make_exclusive_job("any", order=1, priority=3, weight=2.0)])


def _snapshot(
    pool: Pool, jobs: Iterable[JobDemand], unavailable: frozenset[int] = frozenset()
) -> Snapshot:
    return Snapshot(
        now=Micros(HOUR), pool=pool, deployments=(), jobs=tuple(jobs), unavailable=unavailable
    )


def _wide(job: JobDemand, number: int) -> JobDemand:
    """Jobs of 1, 2, 4 devices, every third with a choice of widths."""
    width = (1, 2, 4)[number % 3]
    options = tuple(replace(one, devices=width) for one in job.options)
    if number % 3 == 1:
        options += tuple(
            replace(one, steps_per_second=one.steps_per_second * 0.6) for one in job.options
        )
    return replace(job, options=options)


def _dated(job: JobDemand, number: int) -> JobDemand:
    """Deadlines that are past, tight, and far away."""
    hours = (0.5, 2.0, 6.0, 48.0)[number % 4]
    return replace(job, deadline=Micros(round(hours * HOUR)))


def _served(job: JobDemand, number: int) -> JobDemand:
    """Jobs that got something before, of different weights and priorities."""
    return replace(
        job,
        attained={"fast": Micros(number * HOUR // 4)},
        remaining_steps=max(1, job.remaining_steps // (1 + number)),
        weight=1.0 + number % 2,
        priority=number % 3,
    )


def check_exclusive_policy(
    policy: Policy, situations: Iterable[Snapshot] | None = None, *, rotates: bool = False
) -> None:
    """Raise AssertionError, naming the snapshot, if the policy breaks the protocol.

    rotates: jobs may take turns while nothing changes but the time they received.
    """
    for snapshot in exclusive_snapshots() if situations is None else situations:
        plan = policy.decide(snapshot)
        assert policy.decide(snapshot) == plan, f"equal snapshots, two plans: {snapshot}"
        check_exclusive_plan(snapshot, plan)
        for _ in range(ROUNDS):
            snapshot = _next_round(snapshot, plan, received=rotates)
            later = policy.decide(snapshot)
            check_exclusive_plan(snapshot, later)
            if not rotates:
                assert _places(later) == _places(plan), f"moved while nothing changes: {snapshot}"
            plan = later


def _places(plan: Plan) -> dict[str, object]:
    return {
        **{one.job: one.devices for one in plan.jobs},
        **{one.deployment: sorted(one.places) for one in plan.replicas},
    }


def _next_round(snapshot: Snapshot, plan: Plan, *, received: bool) -> Snapshot:
    """The same situation with the plan in force. received: a round later, with its device time."""
    kinds = {device.index: device.kind for device in snapshot.pool.devices}
    given = {one.job: one.devices for one in plan.jobs}
    jobs: list[JobDemand] = []
    for job in snapshot.jobs:
        devices = given.get(job.job, ())
        attained = dict(job.attained)
        if devices and received:
            kind = kinds[devices[0]]
            attained[kind] = Micros(attained.get(kind, Micros(0)) + len(devices) * ROUND)
        jobs.append(replace(job, running=bool(devices), attained=attained))
    now = Micros(snapshot.now + (ROUND if received else 0))
    return replace(snapshot, now=now, jobs=tuple(jobs), previous=plan)


def check_exclusive_plan(snapshot: Snapshot, plan: Plan) -> None:
    """Raise AssertionError if a plan cannot be put in force, or does not explain itself."""
    kinds = {device.index: device.kind for device in snapshot.pool.devices}
    used = [one for place in _all_places(plan) for one in place]
    assert len(set(used)) == len(used), f"a device has two users: {plan}"
    assert set(used) <= set(kinds) - snapshot.unavailable, f"a device cannot be had: {plan}"
    idle = [*plan.idle_devices, *plan.parked_devices]
    assert len(set(idle)) == len(idle) and set(idle).isdisjoint(used), f"idle and used: {plan}"
    assert set(idle) <= set(kinds), f"unknown devices are idle or parked: {plan}"
    demands = {job.job: job for job in snapshot.jobs}
    told = [one.job for one in (*plan.jobs, *plan.waiting)]
    assert sorted(told) == sorted(demands), f"each job has devices or waits, once: {plan}"
    for allocation in plan.jobs:
        got = {(kinds[one], len(allocation.devices)) for one in allocation.devices}
        ways = {(one.kind, one.devices) for one in demands[allocation.job].options}
        assert len(got) == 1 and got <= ways, f"{allocation.job} gets none of {ways}: {got}"
        assert allocation.harvest is Harvest.SHARE
        assert allocation.threads == len(allocation.devices)
    for one in (*plan.replicas, *plan.jobs, *plan.waiting):
        assert any(character.isdigit() for character in one.reason), (
            f"a reason has numbers: {one.reason!r}"
        )


def _all_places(plan: Plan) -> list[tuple[int, ...]]:
    return [one.devices for one in plan.jobs] + [
        place for one in plan.replicas for place in one.places
    ]
