"""Rounds: wanted shares of time become whole devices, now for one job and then for another.

Who has received least of what it should have goes first (Narayanan et al. 2020, section 5).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from meted.domain.allocation import JobOption, Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND, JobName, Micros
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.room import Room, make_room
from meted.policy.training.ways import Floats, Ways, make_ways

Way = tuple[JobName, JobOption]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What a rotating policy remembers: wanted shares of time, and what jobs had before them.

    since: when they were computed. jobs: for whom, in order. devices: for which room. had: by job,
    device-time by kind at that moment. owed: microseconds by way, from all shares before.
    """

    since: Micros
    jobs: tuple[JobName, ...]
    devices: Mapping[str, int]
    wanted: Mapping[Way, float]
    had: Mapping[JobName, Mapping[str, Micros]]
    owed: Mapping[Way, float] = field(default_factory=dict[Way, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How often shares are computed anew, and for whom there is room.

    round_seconds: between two decisions. keep_seconds: shares stay in force for at least so long.
    backfill: devices that no share wants go to whoever can use them.
    """

    round_seconds: float = 360.0
    keep_seconds: float = 0.0
    backfill: bool = True


def rotate(
    snapshot: Snapshot,
    rotation: Rotation,
    wanted: Callable[[Ways], Floats],
    *,
    why: Callable[[Ways, Floats], str],
) -> Plan:
    """One decision. wanted: share of the time by way. why: a sentence about all of them."""
    room = make_room(snapshot)
    ways = make_ways(snapshot.jobs, room)
    shares = _shares(snapshot, rotation, room, ways, wanted)
    now_wanted = np.array([shares.wanted.get((job.job, option), 0.0) for job, option in ways.pairs])
    chosen, urgency = _choose(ways, shares, rotation, now_wanted)
    sentence = why(ways, now_wanted)
    choices = [
        Choice(
            job=ways.jobs[int(ways.job[way])],
            option=ways.options[way],
            why=f"share {now_wanted[way]:.0%} here, {sentence}",
        )
        for way in chosen
    ]
    total = ways.sum_by_job(now_wanted)
    best = ways.best_by_job(urgency)
    waits = {
        job.job: f"its turn is later: share {total[index]:.0%}, urgency {max(0.0, best[index]):.3g}"
        for index, job in enumerate(ways.jobs)
    }
    return make_plan(snapshot, room, choices, waits=waits, memory=shares)


def _shares(
    snapshot: Snapshot,
    rotation: Rotation,
    room: Room,
    ways: Ways,
    wanted: Callable[[Ways], Floats],
) -> Shares:
    """Those in force, or new ones if jobs or devices changed and the old ones are old enough."""
    names = tuple(job.job for job in snapshot.jobs)
    old = None if snapshot.previous is None else snapshot.previous.memory
    if not isinstance(old, Shares):
        old = None
    if old is not None:
        age = snapshot.now - old.since
        same = old.jobs == names and dict(old.devices) == dict(room.devices)
        early = old.since > 0 and age < rotation.keep_seconds * MICROS_PER_SECOND
        if same or early:
            return old
    values = wanted(ways) if len(ways.job) else np.zeros(0)
    owed: dict[Way, float] = {}
    for way, (demand, option) in enumerate(ways.pairs):
        if old is not None and demand.job in old.had:
            key = demand.job, option
            should = old.wanted.get(key, 0.0) * (snapshot.now - old.since)
            got = _received(demand.attained, old.had[demand.job], option.kind) / ways.width[way]
            owed[key] = old.owed.get(key, 0.0) + should - got
    return Shares(
        since=snapshot.now,
        jobs=names,
        devices=dict(room.devices),
        wanted={
            (job.job, option): float(value)
            for (job, option), value in zip(ways.pairs, values, strict=True)
        },
        had={job.job: dict(job.attained) for job in snapshot.jobs},
        owed=owed,
    )


def _received(now: Mapping[str, Micros], before: Mapping[str, Micros], kind: str) -> int:
    return now.get(kind, 0) - before.get(kind, 0)


def _choose(
    ways: Ways, shares: Shares, rotation: Rotation, wanted: Floats
) -> tuple[list[int], Floats]:
    """Kind after kind, the way with the largest wanted / received first, while devices are left."""
    start = rotation.round_seconds * MICROS_PER_SECOND / 2
    received = np.zeros(len(ways.job))
    owed = np.zeros(len(ways.job))
    for way, (demand, option) in enumerate(ways.pairs):
        before = shares.had.get(demand.job, {})
        received[way] = _received(demand.attained, before, option.kind) / ways.width[way]
        owed[way] = shares.owed.get((demand.job, option), 0.0)
    urgency = wanted / (np.maximum(0.0, received) + start) * MICROS_PER_SECOND * 3600
    left = ways.capacity.copy()
    known = frozenset(shares.jobs)
    done: set[int] = set()
    chosen: list[int] = []
    for kind in range(len(ways.kinds)):
        order = np.lexsort((ways.job, -wanted, -owed, -urgency))
        for way in order[ways.kind[order] == kind]:
            job = int(ways.job[way])
            if job in done or ways.width[way] > left[kind]:
                continue
            if urgency[way] <= 0 and not (rotation.backfill and ways.jobs[job].job in known):
                continue
            left[kind] -= ways.width[way]
            done.add(job)
            chosen.append(int(way))
    return chosen, urgency
