"""What serving policies remember from one decision to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meted.domain.allocation import Snapshot
from meted.domain.units import DeploymentName, Micros
from meted.policy.serving.counting import ScaleMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMemory:
    """scales: of each deployment. decided: the last moment at which counts were computed."""

    scales: Mapping[DeploymentName, ScaleMemory] = field(
        default_factory=dict[DeploymentName, ScaleMemory]
    )
    decided: Micros = Micros(0)


def remembered(snapshot: Snapshot) -> ServingMemory:
    """Of the plan before; empty at the first decision."""
    memory = None if snapshot.previous is None else snapshot.previous.memory
    return memory if isinstance(memory, ServingMemory) else ServingMemory()
