"""How many replicas a forecast, a queue and what loads already call for; nothing flaps."""

import math
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand
from meted.domain.units import MICROS_PER_SECOND, Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The rules of counting.

    busy: share of a replica's capacity that the forecast may use. hysteresis: how far below `busy`
    the replicas that are left must stay before one goes. drain_s: seconds in which a queue is to be
    gone. window_s: a count falls to the largest of the last so many seconds. spare: replicas beside
    those that the load calls for, for a burst that comes while another would still load.
    """

    busy: float = 0.8
    hysteresis: float = 0.15
    drain_s: float = 60.0
    window_s: float = 300.0
    spare: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hysteresis < self.busy <= 1:
            raise ValueError(
                f"scale busy is {self.busy} and hysteresis {self.hysteresis}; "
                "expected 0 <= hysteresis < busy <= 1"
            )
        if self.drain_s <= 0 or min(self.window_s, self.spare) < 0:
            raise ValueError(
                f"scale drain_s is {self.drain_s}, window_s {self.window_s}, spare {self.spare}; "
                "expected more than 0 seconds, 0 or more seconds, and 0 or more replicas"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleMemory:
    """Counts called for lately: moments ascend, counts descend, so the first is the largest."""

    recent: tuple[tuple[Micros, int], ...] = ()

    def largest(self) -> int:
        return self.recent[0][1] if self.recent else 0

    def called(self, count: int, now: Micros, window_s: float) -> "ScaleMemory":
        """With one more count; those older than the window are forgotten."""
        since = now - window_s * MICROS_PER_SECOND
        kept = [(at, one) for at, one in self.recent if since <= at < now and one > count]
        return ScaleMemory(recent=(*kept, (now, count)))


DEFAULT = Scale()


def wanted_replicas(
    demand: DeploymentDemand,
    capacity_per_replica: float,
    *,
    previous: int,
    now: Micros,
    memory: ScaleMemory | None,
    scale: Scale = DEFAULT,
) -> tuple[int, ScaleMemory, str]:
    """How many replicas are to be there, what to remember, and why.

    capacity_per_replica: requests per second inside the SLO. previous: replicas of the plan before;
    those that load are among them, so a count is a total and never grows by what is on its way.
    The load is the forecast and what empties the queue within `drain_s`. The count is within the
    demand's bounds. Raises ValueError for a capacity that is not above 0.
    """
    if not capacity_per_replica > 0:
        raise ValueError(
            f"{demand.deployment}: a replica answers {capacity_per_replica} requests/s, expected "
            "more than 0; check its options"
        )
    load = demand.arrivals_per_second + demand.queued / scale.drain_s
    spare = scale.spare if load > 0 else 0
    up = _count(load / (capacity_per_replica * scale.busy)) + spare
    down = _count(load / (capacity_per_replica * (scale.busy - scale.hysteresis))) + spare
    called = up if up >= previous else min(previous, down)
    if called == 0 and (demand.running or demand.queued):
        called = 1
    memory = (memory or ScaleMemory()).called(called, now, scale.window_s)
    count = called if called >= previous else min(previous, memory.largest())
    bounded = min(demand.most, max(demand.least, count))
    return (
        bounded,
        memory,
        (
            f"{demand.arrivals_per_second:.2f} requests/s and {demand.queued} queued at "
            f"{capacity_per_replica:.2f} requests/s each call for {called}; "
            f"{demand.replicas} ready, {demand.starting} starting"
            + (f"; {count} until {scale.window_s:.0f} s have been calmer" if count > called else "")
            + (f"; bounds {demand.least} to {demand.most}" if bounded != count else "")
        ),
    )


def _count(replicas: float) -> int:
    """Whole replicas; a load that is full up to rounding needs no further one."""
    return math.ceil(replicas - 1e-9)
