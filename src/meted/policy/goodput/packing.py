"""Places on as few nodes as can be; narrow jobs move only where a wider one needs their node."""

from collections.abc import Sequence
from dataclasses import replace

from meted.domain.allocation import Harvest, JobAllocation, Plan, Snapshot
from meted.domain.units import JobName
from meted.policy.training.plans import Choice
from meted.policy.training.room import Room, make_room

Places = dict[JobName, tuple[int, ...]]


def packed(snapshot: Snapshot, choices: Sequence[Choice]) -> Snapshot:
    """The snapshot as if every chosen job already had the place where it should go now."""
    previous = snapshot.previous
    before = {one.job: one for one in previous.jobs} if previous else {}
    nodes = {device.index: device.node for device in snapshot.pool.devices}
    stay = {
        one.job.job
        for one in choices
        if one.job.job in before and len(before[one.job.job].devices) == one.option.devices
    }
    while True:
        room = make_room(snapshot)
        places = _try(room, choices, before, stay)
        if not _scattered(snapshot, places, nodes):
            break
        crowd: dict[int, list[JobName]] = {}
        widest = _widest(snapshot)
        for name in sorted(stay & set(places)):
            if len(places[name]) < widest:
                for node in {nodes[one] for one in places[name]}:
                    crowd.setdefault(node, []).append(name)
        if not crowd:
            break
        least = min(crowd, key=lambda node: (sum(len(places[n]) for n in crowd[node]), node))
        stay -= set(crowd[least])
    if previous is None:
        previous = Plan(replicas=(), jobs=())
    allocations = tuple(
        JobAllocation(
            job=one.job.job,
            devices=places[one.job.job],
            threads=len(places[one.job.job]),
            harvest=Harvest.SHARE,
            reason=one.why,
        )
        for one in choices
        if one.job.job in places
    )
    return replace(snapshot, previous=replace(previous, jobs=allocations))


def _try(
    room: Room, choices: Sequence[Choice], before: dict[JobName, JobAllocation], stay: set[JobName]
) -> Places:
    places: Places = {}
    for one in choices:
        name = one.job.job
        if name in stay:
            was = before[name].devices
            if room.placer.kind(was) == one.option.kind and room.placer.keep(was):
                places[name] = was
    for one in sorted(choices, key=lambda one: -one.option.devices):
        if one.job.job not in places:
            place = room.placer.take(one.option.kind, one.option.devices)
            if place is not None:
                places[one.job.job] = place
    return places


def _widest(snapshot: Snapshot) -> int:
    counts: dict[int, int] = {}
    for device in snapshot.pool.devices:
        counts[device.node] = counts.get(device.node, 0) + 1
    return max(counts.values())


def _scattered(snapshot: Snapshot, places: Places, nodes: dict[int, int]) -> bool:
    widest = _widest(snapshot)
    return any(
        len({nodes[one] for one in place}) > -(-len(place) // widest) for place in places.values()
    )
