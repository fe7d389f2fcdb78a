"""How many replicas a deployment is to have on shared cores: between its bounds, by its load."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meted.domain.allocation import DeploymentDemand, Snapshot
from meted.domain.units import MICROS_PER_SECOND, DeploymentName
from meted.policy.serving.counting import Scale, ScaleMemory, wanted_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What each deployment's load called for lately."""

    of: Mapping[DeploymentName, ScaleMemory] = field(
        default_factory=dict[DeploymentName, ScaleMemory]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Counts replicas by `wanted_replicas`, and gives up what nobody uses.

    keep_warm_s: a deployment that may have no replica keeps its last for so long without a request,
    and for the time that a load takes, in which a request that started it waits.
    Ski rental would keep it until keeping has cost a load; shared cores cost the same unused, and
    what frees them is memory, which has no price here: so the time is given.
    """

    scale: Scale
    keep_warm_s: float

    def __post_init__(self) -> None:
        if self.keep_warm_s < 0:
            raise ValueError(
                f"policy.keep_warm_s is {self.keep_warm_s}, expected 0 or more seconds"
            )

    def wanted(
        self, snapshot: Snapshot, demand: DeploymentDemand
    ) -> tuple[int, ScaleMemory | None, str]:
        """How many replicas, what to remember of it, and why."""
        quiet = demand.quiet / MICROS_PER_SECOND
        rests = not (demand.least or demand.queued or demand.running)
        if rests and not demand.replicas + demand.starting:
            return 0, None, f"unloaded, quiet for {quiet:.0f} s; the next request starts one"
        load = demand.options[0].load / MICROS_PER_SECOND if demand.options else 0.0
        if rests and quiet >= self.keep_warm_s + load:
            why = f"quiet for {quiet:.0f} s, kept warm for {self.keep_warm_s:.0f} s; unloaded"
            return 0, None, why
        before = snapshot.previous.deployment(demand.deployment) if snapshot.previous else None
        count, memory, why = wanted_replicas(
            demand,
            _capacity(demand),
            previous=len(before.places) if before else demand.replicas + demand.starting,
            now=snapshot.now,
            memory=_remembered(snapshot).get(demand.deployment),
            scale=self.scale,
        )
        if count:
            return count, memory, f"wants {count}: {why}"
        return min(1, demand.most), memory, f"wants 1, kept warm for {self.keep_warm_s:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingParameters:
    """What a policy for shared cores lets a user set of its `Scaling`; the names are in the
    configuration."""

    scale_above: float = 0.8
    scale_hysteresis: float = 0.15
    scale_drain_s: float = 10.0
    scale_window_s: float = 60.0
    keep_warm_s: float = 300.0

    @property
    def scaling(self) -> Scaling:
        """Raises ValueError, naming the parameter, if one is impossible."""
        return Scaling(
            scale=Scale(
                busy=self.scale_above,
                hysteresis=self.scale_hysteresis,
                drain_s=self.scale_drain_s,
                window_s=self.scale_window_s,
            ),
            keep_warm_s=self.keep_warm_s,
        )


def _remembered(snapshot: Snapshot) -> Mapping[DeploymentName, ScaleMemory]:
    memory = snapshot.previous.memory if snapshot.previous else None
    return memory.of if isinstance(memory, ScalingMemory) else {}


def _capacity(demand: DeploymentDemand) -> float:
    """Requests per second of one replica: as predicted, else by how busy the forecast is."""
    if demand.options:
        return demand.options[0].requests_per_second
    if demand.utilisation > 0 and demand.arrivals_per_second > 0:
        return demand.arrivals_per_second / demand.utilisation
    return 1.0
