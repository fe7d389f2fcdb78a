"""The cheapest mix of options that answers a rate inside the SLO: a small integer program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from meted.domain.allocation import ReplicaOption

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """An option with what a replica costs, in US dollars an hour, and how many there are already.

    fresh: cost of one that must first load: its load is spread over the time it will last.
    """

    option: ReplicaOption
    dollars: float
    fresh: float
    there: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """counts: replicas of each way, in their order. dollars: US dollars an hour, fresh ones at
    their fresh price. capacity: requests per second."""

    counts: tuple[int, ...]
    dollars: float
    capacity: float


def cheapest_mix(
    ways: Sequence[Way],
    devices: Mapping[str, int],
    rate: float,
    *,
    least: int,
    most: int,
    seconds: float = 1.0,
) -> Mix | None:
    """The mix of least cost whose capacity is at least `rate`, or None if no mix reaches it.

    devices: how many of a kind there are. least, most: bounds of the number of replicas.
    """
    if not ways or (rate <= 0 and least == 0):
        return Mix(counts=(0,) * len(ways), dollars=0.0, capacity=0.0) if rate <= 0 else None
    kinds = sorted({way.option.kind for way in ways})
    size = len(ways)
    cost = np.array([way.dollars for way in ways] + [max(way.fresh, way.dollars) for way in ways])
    capacity = np.tile([way.option.requests_per_second for way in ways], 2)
    width = np.array(
        [[way.option.devices * (way.option.kind == kind) for way in ways] * 2 for kind in kinds],
        dtype=np.float64,
    )
    room = np.array([devices.get(kind, 0) for kind in kinds], dtype=np.float64)
    upper = np.array([way.there for way in ways] + [most] * size, dtype=np.float64)
    answer = milp(
        c=cost,
        constraints=[
            LinearConstraint(capacity[None, :], lb=rate * (1 - ROUNDING)),
            LinearConstraint(width, ub=room),
            LinearConstraint(np.ones((1, 2 * size)), lb=least, ub=most),
        ],
        integrality=np.ones(2 * size, dtype=np.int64),
        bounds=Bounds(lb=np.zeros(2 * size), ub=upper),
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    if answer.x is None:
        return None
    found = np.rint(answer.x).astype(int)
    counts = tuple(int(one) for one in found[:size] + found[size:])
    return Mix(
        counts=counts,
        dollars=float(cost @ found),
        capacity=float(capacity[:size] @ np.array(counts)),
    )


def largest_mix(ways: Sequence[Way], devices: Mapping[str, int], *, most: int) -> Mix:
    """The most capacity that the devices give, way by way, the most requests a device first."""
    left, counts = dict(devices), [0] * len(ways)
    order = sorted(
        range(len(ways)),
        key=lambda one: -ways[one].option.requests_per_second / ways[one].option.devices,
    )
    for one in order:
        option = ways[one].option
        fit = min(left.get(option.kind, 0) // option.devices, most - sum(counts))
        counts[one] = max(0, fit)
        left[option.kind] = left.get(option.kind, 0) - counts[one] * option.devices
    return Mix(
        counts=tuple(counts),
        dollars=sum(way.dollars * count for way, count in zip(ways, counts, strict=True)),
        capacity=sum(
            way.option.requests_per_second * count for way, count in zip(ways, counts, strict=True)
        ),
    )
