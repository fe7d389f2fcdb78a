"""Jobs on what serving leaves: those that run stay, those that wait start in their order."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.allocation import JobDemand, JobOption, Snapshot
from meted.domain.units import JobName
from meted.policy.sharing.ground import Ground
from meted.policy.sharing.line import Line, seconds_of

GROW_GAIN = 4.0
"""A job grows if that ends it earlier by so many of its restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """When the first job that does not fit could start: seconds from now, on a kind of device.

    extra: devices of that kind that it will not need then.
    """

    job: JobName
    kind: str
    at_s: float
    extra: int


def keep_jobs(snapshot: Snapshot, ground: Ground) -> None:
    """Jobs stay where they are if their devices are there and free."""
    if snapshot.previous is None:
        return
    demands = {job.job: job for job in snapshot.jobs}
    for one in snapshot.previous.jobs:
        job = demands.get(one.job)
        if job is None or not ground.has(one.devices):
            continue
        if option_on(job, ground.kind(one.devices), len(one.devices)) is not None:
            ground.lend(job, one.devices)


def start_jobs(snapshot: Snapshot, ground: Ground, line: Line) -> Reserved | None:
    """Start what fits. Returns the first that does not, and when its turn comes by prediction."""
    waiting = sorted((job for job in snapshot.jobs if job.job not in ground.lent), key=line.rank)
    reserved: Reserved | None = None
    for job in waiting:
        option = _best(snapshot, job, ground, reserved, crowded=len(waiting) > 1)
        if option is not None:
            ground.lend_new(job, option.kind, option.devices)
            if reserved is not None and option.kind == reserved.kind:
                reserved = _less(reserved, job, option)
        elif reserved is None and _could_ever(snapshot, job, ground):
            reserved = _reserve(job, ground)
            if not line.overtake:
                break
    if reserved is None:
        _grow(snapshot, ground, line)
    return reserved


def option_on(job: JobDemand, kind: str, devices: int) -> JobOption | None:
    """The way in which a job runs on so many devices of a kind."""
    return next((one for one in job.options if (one.kind, one.devices) == (kind, devices)), None)


def _best(
    snapshot: Snapshot,
    job: JobDemand,
    ground: Ground,
    reserved: Reserved | None,
    *,
    crowded: bool,
) -> JobOption | None:
    """The fastest way that fits; where others wait, the one with most steps for its money."""
    fits = [
        one
        for one in job.options
        if one.steps_per_second > 0
        and one.devices <= ground.free(one.kind)
        and (reserved is None or _keeps(reserved, job, one))
    ]
    if not crowded:
        return max(fits, key=lambda one: one.steps_per_second, default=None)
    return max(
        fits,
        key=lambda one: (
            one.steps_per_second
            / max(1, one.devices * snapshot.pool.price_of(one.kind).nano_usd_per_device_hour),
            one.steps_per_second,
        ),
        default=None,
    )


def _keeps(reserved: Reserved, job: JobDemand, option: JobOption) -> bool:
    """Whether it ends before the reserved moment, or needs nothing of what is reserved."""
    return (
        option.kind != reserved.kind
        or seconds_of(job, option) <= reserved.at_s
        or option.devices <= reserved.extra
    )


def _less(reserved: Reserved, job: JobDemand, option: JobOption) -> Reserved:
    if seconds_of(job, option) <= reserved.at_s:
        return reserved
    return Reserved(
        job=reserved.job,
        kind=reserved.kind,
        at_s=reserved.at_s,
        extra=reserved.extra - option.devices,
    )


def _could_ever(snapshot: Snapshot, job: JobDemand, ground: Ground) -> bool:
    """Whether it would fit if every other job had ended."""
    return any(
        one.devices <= ground.free(one.kind) + ground.lent_devices[one.kind]
        for one in job.options
        if one.steps_per_second > 0
    )


def _reserve(job: JobDemand, ground: Ground) -> Reserved:
    found: list[tuple[float, str, int]] = []
    for option in job.options:
        free = ground.free(option.kind)
        if option.devices > free + ground.lent_devices[option.kind]:
            continue
        at = 0.0
        for seconds, devices in _ends(ground, option.kind):
            if free >= option.devices:
                break
            at, free = seconds, free + devices
        found.append((at, option.kind, free - option.devices))
    at, kind, extra = min(found)
    return Reserved(job=job.job, kind=kind, at_s=at, extra=extra)


def _ends(ground: Ground, kind: str) -> list[tuple[float, int]]:
    """When running jobs of a kind end, and how many devices they leave."""
    return sorted(
        (seconds_of(one.job, option), len(one.devices))
        for one in ground.lent.values()
        if one.kind == kind
        and (option := option_on(one.job, kind, len(one.devices))) is not None
        and option.steps_per_second > 0
    )


def _grow(snapshot: Snapshot, ground: Ground, line: Line) -> None:
    """Where nobody waits, jobs take more devices: those that start, and those that run if that
    ends them far earlier."""
    lent: Sequence[JobDemand] = sorted((one.job for one in ground.lent.values()), key=line.rank)
    shrunk = frozenset(ground.shrunk)
    for job in lent:
        one = ground.lent[job.job]
        now = option_on(job, one.kind, len(one.devices))
        if now is None or job.job in shrunk:
            continue
        wider = [
            way
            for way in job.options
            if way.kind == one.kind
            and 0 < way.devices - now.devices <= ground.free(one.kind)
            and _gain(job, now, way) > (GROW_GAIN * job.restart / 1e6 if job.running else 0.0)
        ]
        if wider:
            best = max(wider, key=lambda way: way.steps_per_second)
            ground.widen(job, best.devices)


def _gain(job: JobDemand, now: JobOption, wider: JobOption) -> float:
    """Seconds by which it ends earlier on more devices; one that runs must first restart."""
    if now.steps_per_second <= 0 or wider.steps_per_second <= now.steps_per_second:
        return 0.0
    return (
        job.remaining_steps / now.steps_per_second
        - job.remaining_steps / wider.steps_per_second
        - (job.restart / 1e6 if job.running else 0.0)
    )
