"""What a house that begins serves, where rollouts changed what its deployments are. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meted.domain.arms import public_name
from meted.domain.deployment import Deployment
from meted.domain.units import DeploymentName
from meted.live.rollout_record import RolloutRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """deployments: to be served. forgotten: versions that are not, and need not be remembered."""

    deployments: dict[DeploymentName, Deployment]
    forgotten: tuple[DeploymentName, ...]


def in_force(records: Iterable[RolloutRecord]) -> dict[DeploymentName, RolloutRecord]:
    """By public name the last rollout, oldest record first; none of deployments that are gone."""
    last = {record.name: record for record in records}
    return {name: record for name, record in last.items() if not record.gone}


def resumed(
    records: Iterable[RolloutRecord], wanted: Mapping[DeploymentName, Deployment]
) -> Resumed:
    """wanted: deployments that the store remembers or the configuration names.

    A version that rollouts say is served is there whether or not it was remembered, so that no kill
    between two writes loses it; one that they say is over is not.
    """
    deployments = dict(wanted)
    kept: set[DeploymentName] = set()
    managed = in_force(records)
    for record in managed.values():
        arms = (record.first, record.second) if record.runs else (record.base,)
        for arm in arms:
            deployments.setdefault(arm.name, arm)
            kept.add(arm.name)
    forgotten = tuple(
        name
        for name in deployments
        if name not in kept and (public_name(name) in managed or public_name(name) != name)
    )
    return Resumed(
        deployments={n: d for n, d in deployments.items() if n not in forgotten},
        forgotten=forgotten,
    )
