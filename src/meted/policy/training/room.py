"""The devices that training may use now: those that deployments leave, by kind and price."""

from collections.abc import Mapping
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, ReplicaAllocation, Snapshot
from meted.policy.placement import Placer

NANOS_PER_DOLLAR = 1e9


@dataclass(frozen=True, slots=True)
class Room:
    """What is left for training. placer: hands out the devices of one decision.

    devices: of each kind, those that jobs may use. dollars: US dollars per busy device-hour, and
    saved: those that a device-hour costs less when it is not used.
    """

    placer: Placer
    replicas: tuple[ReplicaAllocation, ...]
    devices: Mapping[str, int]
    dollars: Mapping[str, float]
    saved: Mapping[str, float]


def make_room(snapshot: Snapshot) -> Room:
    """Replicas stay where they are, or get the least that their deployment wants."""
    placer = Placer(snapshot)
    previous = {} if snapshot.previous is None else _before(snapshot.previous.replicas)
    everything = placer.rest()
    replicas = tuple(
        _place(
            demand,
            previous.get(demand.deployment, ()),
            placer,
            shared=snapshot.pool.shared,
            everything=everything,
        )
        for demand in snapshot.deployments
    )
    kinds = dict.fromkeys(device.kind for device in snapshot.pool.devices)
    prices = {kind: snapshot.pool.price_of(kind) for kind in kinds}
    busy = {kind: one.nano_usd_per_device_hour / NANOS_PER_DOLLAR for kind, one in prices.items()}
    unused = {
        kind: min(one.when_idle, one.when_parked) / NANOS_PER_DOLLAR for kind, one in prices.items()
    }
    return Room(
        placer=placer,
        replicas=replicas,
        devices={kind: placer.free(kind) for kind in kinds},
        dollars=busy,
        saved={kind: max(0.0, busy[kind] - unused[kind]) for kind in kinds},
    )


def _before(replicas: tuple[ReplicaAllocation, ...]) -> dict[str, tuple[tuple[int, ...], ...]]:
    return {one.deployment: one.places for one in replicas}


def _place(
    demand: DeploymentDemand,
    before: tuple[tuple[int, ...], ...],
    placer: Placer,
    *,
    shared: bool,
    everything: tuple[int, ...],
) -> ReplicaAllocation:
    if shared and not demand.options:
        reason = (
            f"{demand.deployment}: {demand.least} replicas share {len(everything)} devices, which "
            "this policy does not divide"
        )
        places = (everything,) * demand.least
        return ReplicaAllocation(deployment=demand.deployment, places=places, reason=reason)
    places = [place for place in before[: demand.most] if placer.keep(place)]
    kept = len(places)
    ways = [(one.kind, one.devices) for one in demand.options]
    for kind, count in ways:
        while len(places) < demand.least:
            place = placer.take(kind, count, one_node=True)
            if place is None:
                break
            places.append(place)
    reason = (
        f"{demand.deployment}: {len(places)} replicas, {kept} of them where they were; "
        f"it wants {demand.least} to {demand.most}"
    )
    if len(places) < demand.least:
        reason += f"; no room for {demand.least - len(places)} in any of {len(ways)} options"
    return ReplicaAllocation(
        deployment=demand.deployment, places=tuple(sorted(places)), reason=reason
    )
