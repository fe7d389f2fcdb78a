"""What a serving rule asks of the pool: replicas by option, and why."""

from dataclasses import dataclass

from meted.domain.allocation import (
    DeploymentDemand,
    ReplicaAllocation,
    ReplicaOption,
    Snapshot,
)
from meted.domain.units import DeploymentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """replicas: how many of each option, the dearest to have first. others: options to fall back
    to, one replica for one, where the pool has no room."""

    demand: DeploymentDemand
    replicas: tuple[tuple[ReplicaOption, int], ...]
    reason: str
    others: tuple[ReplicaOption, ...] = ()


def all_places_before(snapshot: Snapshot) -> dict[DeploymentName, tuple[tuple[int, ...], ...]]:
    """Where the plan before put replicas, by deployment, without those that lost a device."""
    if snapshot.previous is None:
        return {}
    return {one.deployment: _standing(snapshot, one) for one in snapshot.previous.replicas}


def places_before(snapshot: Snapshot, demand: DeploymentDemand) -> tuple[tuple[int, ...], ...]:
    """`all_places_before` of one deployment."""
    if snapshot.previous is None:
        return ()
    before = snapshot.previous.deployment(demand.deployment)
    return () if before is None else _standing(snapshot, before)


def _standing(snapshot: Snapshot, before: ReplicaAllocation) -> tuple[tuple[int, ...], ...]:
    return tuple(place for place in before.places if snapshot.unavailable.isdisjoint(place))


def options_of(demand: DeploymentDemand) -> tuple[ReplicaOption, ...]:
    """Its options that keep the SLO by prediction, in their order.

    Raises ValueError where none does.
    """
    slo = demand.slo
    fit = tuple(
        one
        for one in demand.options
        if one.requests_per_second > 0
        and one.ttft_p95 <= slo.ttft_p95
        and one.tpot_p95 <= slo.tpot_p95
    )
    if not fit:
        raise ValueError(
            f"{demand.deployment}: none of {len(demand.options)} options keeps its SLO of "
            f"{slo.ttft_p95 / 1e6:g} s to the first token and {slo.tpot_p95 / 1e3:g} ms a token; "
            "add kinds of devices or a looser SLO"
        )
    return fit


def memory_of(snapshot: Snapshot, kind: type) -> object | None:
    """What the policy remembered, if it is a value of that kind."""
    memory = None if snapshot.previous is None else snapshot.previous.memory
    return memory if isinstance(memory, kind) else None
