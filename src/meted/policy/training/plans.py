"""From what each job gets to a plan: concrete devices, reasons, and what stays unused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobDemand,
    JobOption,
    Plan,
    Snapshot,
    Waiting,
)
from meted.domain.units import JobName, Micros
from meted.policy.training.room import Room

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A job gets one of its options now. why: what led to it, with numbers."""

    job: JobDemand
    option: JobOption
    why: str


def make_plan(
    snapshot: Snapshot,
    room: Room,
    choices: Sequence[Choice],
    *,
    waits: Mapping[JobName, str] | None = None,
    memory: object = None,
    park: bool = False,
) -> Plan:
    """Jobs stay where they were if their option is the same; wide ones choose before narrow ones.

    waits: why a job gets nothing, if it is not for lack of devices. park: unused devices are parked
    where that is cheaper than idle.
    """
    places = _places(snapshot, room, choices)
    pool = snapshot.pool
    rest = room.placer.rest()
    kinds = {device.index: device.kind for device in pool.devices}
    parked = tuple(one for one in rest if park and _cheaper_parked(snapshot, kinds[one]))
    given = set(places)
    taken = _taken(choices)
    return Plan(
        replicas=room.replicas,
        jobs=tuple(
            JobAllocation(
                job=one.job.job,
                devices=places[one.job.job],
                threads=len(places[one.job.job]),
                harvest=Harvest.SHARE,
                reason=_told(one, room, taken),
                ends=_ends(snapshot, one),
            )
            for one in choices
            if one.job.job in given
        ),
        idle_devices=tuple(sorted(set(rest) - set(parked))),
        parked_devices=parked,
        waiting=tuple(
            Waiting(job=job.job, reason=_waits(job, room, taken, (waits or {}).get(job.job)))
            for job in snapshot.jobs
            if job.job not in given
        ),
        memory=memory,
    )


def _places(
    snapshot: Snapshot, room: Room, choices: Sequence[Choice]
) -> dict[JobName, tuple[int, ...]]:
    before = {} if snapshot.previous is None else {one.job: one for one in snapshot.previous.jobs}
    places: dict[JobName, tuple[int, ...]] = {}
    placer = room.placer
    for one in choices:
        was = before.get(one.job.job)
        if (
            was is not None
            and len(was.devices) == one.option.devices
            and placer.kind(was.devices) == one.option.kind
            and placer.keep(was.devices)
        ):
            places[one.job.job] = was.devices
    for one in sorted(choices, key=lambda one: -one.option.devices):
        if one.job.job not in places:
            place = placer.take(one.option.kind, one.option.devices)
            if place is not None:
                places[one.job.job] = place
    return places


def _cheaper_parked(snapshot: Snapshot, kind: str) -> bool:
    price = snapshot.pool.price_of(kind)
    return price.when_parked < price.when_idle


def _ends(snapshot: Snapshot, one: Choice) -> Micros | None:
    seconds = one.job.remaining_steps / one.option.steps_per_second
    restart = 0 if one.job.running else one.job.restart
    return Micros(snapshot.now + restart + round(seconds * 1e6))


def _taken(choices: Sequence[Choice]) -> dict[str, tuple[int, int]]:
    """By kind: devices in use, and by how many jobs."""
    taken: dict[str, tuple[int, int]] = {}
    for one in choices:
        devices, jobs = taken.get(one.option.kind, (0, 0))
        taken[one.option.kind] = devices + one.option.devices, jobs + 1
    return taken


def hours_of(job: JobDemand, option: JobOption) -> float:
    """Hours until the job is done if it keeps this option."""
    return job.remaining_steps / option.steps_per_second / SECONDS_PER_HOUR


def _told(one: Choice, room: Room, taken: Mapping[str, tuple[int, int]]) -> str:
    job, option = one.job, one.option
    hours, price = hours_of(job, option), option.devices * room.dollars[option.kind]
    sentence = (
        f"{job.job}: {option.devices} x {option.kind}, {hours:.2f} h left, "
        f"${hours * price:.2f}; {one.why}"
    )
    faster = [
        way
        for way in job.options
        if way.steps_per_second > option.steps_per_second * 1.001 and way.kind in room.devices
    ]
    if not faster:
        return f"{sentence}; nothing of its {len(job.options)} options is faster"
    best = max(faster, key=lambda way: way.steps_per_second)
    less = hours - hours_of(job, best)
    more = hours_of(job, best) * best.devices * room.dollars[best.kind] - hours * price
    cost = f"${more:.2f} more" if more >= 0 else f"${-more:.2f} less"
    return (
        f"{sentence}; {best.devices} x {best.kind} would end {less:.2f} h earlier for {cost}"
        f"{_bound(best, room, taken)}"
    )


def _bound(way: JobOption, room: Room, taken: Mapping[str, tuple[int, int]]) -> str:
    devices, jobs = taken.get(way.kind, (0, 0))
    have = room.devices.get(way.kind, 0)
    return f", {devices} of {have} are with {jobs} jobs"


def _waits(
    job: JobDemand, room: Room, taken: Mapping[str, tuple[int, int]], why: str | None
) -> str:
    ways = [way for way in job.options if way.steps_per_second > 0 and way.kind in room.devices]
    fits = [way for way in ways if way.devices <= room.devices[way.kind]]
    if not fits:
        wanted = ", ".join(f"{way.devices} x {way.kind}" for way in job.options) or "0 options"
        have = ", ".join(f"{count} x {kind}" for kind, count in room.devices.items())
        return f"{job.job}: waits; it needs {wanted}, and training may use {have}"
    cheapest = min(fits, key=lambda way: hours_of(job, way) * way.devices * room.dollars[way.kind])
    hours = hours_of(job, cheapest)
    cost = hours * cheapest.devices * room.dollars[cheapest.kind]
    return (
        f"{job.job}: waits, {why or 'others go first'}; {cheapest.devices} x {cheapest.kind} would "
        f"end it in {hours:.2f} h for ${cost:.2f}{_bound(cheapest, room, taken)}"
    )
