"""From what serving asks to a plan: replicas first, jobs on the rest, the rest idle or parked."""

from collections.abc import Sequence

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobDemand,
    Plan,
    ReplicaAllocation,
    ReplicaOption,
    Snapshot,
    Waiting,
)
from meted.domain.units import Micros
from meted.policy.sharing.ground import Ground
from meted.policy.sharing.lending import Reserved, keep_jobs, option_on, start_jobs
from meted.policy.sharing.line import Line
from meted.policy.sharing.wish import Wish, all_places_before

SECONDS_PER_HOUR = 3600.0
NANOS_PER_DOLLAR = 1e9


def share(snapshot: Snapshot, wishes: Sequence[Wish], line: Line, *, memory: object = None) -> Plan:
    """Replicas stay where they are; new ones take free devices, or the cheapest that jobs return.

    What is left is lent to jobs in the order of the line. Unused devices are parked where that
    costs less than keeping them on.
    """
    ground = Ground(snapshot, line)
    before = all_places_before(snapshot)
    kept = [_keep(wish, before.get(wish.demand.deployment, ()), ground) for wish in wishes]
    keep_jobs(snapshot, ground)
    replicas = tuple(
        _place(wish, places, ground) for wish, places in zip(wishes, kept, strict=True)
    )
    reserved = start_jobs(snapshot, ground, line)
    rest = ground.rest()
    cheaper = {kind for kind in ground.unused if _cheaper_parked(snapshot, kind)}
    parked = tuple(one for one in rest if ground.kind((one,)) in cheaper)
    on = frozenset(rest).difference(parked)
    stopped, shrunk = frozenset(ground.stopped), frozenset(ground.shrunk)
    unused = ", ".join(f"{count} {kind}" for kind, count in ground.unused.items())
    return Plan(
        replicas=replicas,
        jobs=tuple(
            _lend(snapshot, job, ground, shrunk=job.job in shrunk)
            for job in snapshot.jobs
            if job.job in ground.lent
        ),
        idle_devices=tuple(one for one in rest if one in on),
        parked_devices=parked,
        waiting=tuple(
            Waiting(
                job=job.job,
                reason=_waits(job, unused, reserved, stopped=job.job in stopped),
            )
            for job in snapshot.jobs
            if job.job not in ground.lent
        ),
        memory=memory,
    )


def _keep(wish: Wish, before: Sequence[tuple[int, ...]], ground: Ground) -> list[tuple[int, ...]]:
    """Places of the plan before that are still wanted, oldest first."""
    left = {(one.kind, one.devices): count for one, count in wish.replicas}
    fallback = {(one.kind, one.devices) for one in wish.others}
    kept: list[tuple[int, ...]] = []
    odd: list[tuple[int, ...]] = []
    for place in before:
        if not ground.has(place):
            continue
        way = (ground.kind(place), len(place))
        if left.get(way, 0) > 0:
            left[way] -= 1
            ground.take(place)
            kept.append(place)
        elif way in fallback:
            odd.append(place)
    for place in odd[: sum(left.values())]:
        ground.take(place)
        kept.append(place)
    return kept


def _place(wish: Wish, kept: list[tuple[int, ...]], ground: Ground) -> ReplicaAllocation:
    left = {(one.kind, one.devices): count for one, count in wish.replicas}
    total, stopped, shrunk = sum(left.values()), len(ground.stopped), len(ground.shrunk)
    for place in kept:
        way = (ground.kind(place), len(place))
        way = way if left.get(way, 0) > 0 else max(left, key=lambda one: left[one])
        left[way] -= 1
    places = list(kept)
    for option, _ in wish.replicas:
        for _ in range(left[option.kind, option.devices]):
            place = _first(ground, (option, *wish.others))
            if place is not None:
                places.append(place)
    name = wish.demand.deployment
    reason = f"{name}: {len(places)} replicas, {len(kept)} stay; {wish.reason}"
    if len(ground.stopped) > stopped:
        reason += f"; {len(ground.stopped) - stopped} jobs stop for it"
    if len(ground.shrunk) > shrunk:
        reason += f"; {len(ground.shrunk) - shrunk} jobs shrink for it"
    if len(places) < total:
        reason += f"; the pool has no room for {total - len(places)} more"
    return ReplicaAllocation(deployment=name, places=tuple(places), reason=reason)


def _first(ground: Ground, options: Sequence[ReplicaOption]) -> tuple[int, ...] | None:
    for option in options:
        place = ground.get(option)
        if place is not None:
            return place
    return None


def _cheaper_parked(snapshot: Snapshot, kind: str) -> bool:
    price = snapshot.pool.price_of(kind)
    return price.when_parked < price.when_idle


def _lend(snapshot: Snapshot, job: JobDemand, ground: Ground, *, shrunk: bool) -> JobAllocation:
    lent = ground.lent[job.job]
    option = option_on(job, lent.kind, len(lent.devices))
    pace = option.steps_per_second if option is not None else 0.0
    reason = f"{job.job}: {len(lent.devices)} x {lent.kind}"
    ends: Micros | None = None
    if pace > 0:
        hours = job.remaining_steps / pace / SECONDS_PER_HOUR
        price = snapshot.pool.price_of(lent.kind).nano_usd_per_device_hour / NANOS_PER_DOLLAR
        reason += f", {hours:.2f} h left for ${hours * len(lent.devices) * price:.2f}"
        restart = 0 if job.running else job.restart
        ends = Micros(snapshot.now + restart + round(hours * SECONDS_PER_HOUR * 1e6))
    if shrunk:
        reason += "; it gave some back to serving"
    reason += f"; {ground.free(lent.kind)} of that kind are unused"
    return JobAllocation(
        job=job.job,
        devices=lent.devices,
        threads=len(lent.devices),
        harvest=Harvest.SHARE,
        reason=reason,
        ends=ends,
    )


def _waits(job: JobDemand, unused: str, reserved: Reserved | None, *, stopped: bool) -> str:
    wanted = ", ".join(f"{one.devices} x {one.kind}" for one in job.options) or "0 options"
    reason = f"{job.job}: waits for {wanted}; unused are {unused}"
    if stopped:
        reason += f"; serving took its devices back, a restart of {job.restart / 1e6:.0f} s"
    if reserved is not None and reserved.job == job.job:
        return f"{reason}; it is next, in {reserved.at_s / SECONDS_PER_HOUR:.2f} h by prediction"
    if reserved is not None:
        return f"{reason}; {reserved.job} is before it"
    return reason
