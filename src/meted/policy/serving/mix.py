"""The cheapest mix of options that answers a rate inside the SLO.

Where mixes are few, all are looked at; else a small integer program.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from meted.domain.allocation import ReplicaOption

ROUNDING = 1e-9
FEW = 4_096
"""Mixes up to which looking at all of them is much faster than an integer program."""


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
    few: int = FEW,
) -> Mix | None:
    """The mix of least cost whose capacity is at least `rate`, or None if no mix reaches it.

    devices: how many of a kind there are. least, most: bounds of the number of replicas.
    few: mixes up to which all are looked at. seconds: what the program may take otherwise.
    """
    if not ways or (rate <= 0 and least == 0):
        return Mix(counts=(0,) * len(ways), dollars=0.0, capacity=0.0) if rate <= 0 else None
    needed = [
        max(least, math.ceil(rate / max(way.option.requests_per_second, ROUNDING))) for way in ways
    ]
    ends = [
        1 + min(most, need, devices.get(way.option.kind, 0) // way.option.devices)
        for way, need in zip(ways, needed, strict=True)
    ]
    if math.prod(ends) <= few:
        return _best_of_all(ways, devices, rate, ends=ends, least=least, most=most)
    return _solved(ways, devices, rate, least=least, most=most, seconds=seconds)


def _best_of_all(
    ways: Sequence[Way],
    devices: Mapping[str, int],
    rate: float,
    *,
    ends: Sequence[int],
    least: int,
    most: int,
) -> Mix | None:
    """No way needs more replicas than answer the rate alone, or than are wanted at least."""
    counts = np.indices(ends).reshape(len(ways), -1)
    there = np.array([way.there for way in ways])[:, None]
    dollars = np.array([way.dollars for way in ways])
    fresh = np.array([max(way.fresh, way.dollars) for way in ways])
    kept = np.minimum(counts, there)
    cost = dollars @ kept + fresh @ (counts - kept)
    capacity = np.array([way.option.requests_per_second for way in ways]) @ counts
    replicas = counts.sum(axis=0)
    good = (capacity >= rate * (1 - ROUNDING)) & (replicas >= least) & (replicas <= most)
    for kind in {way.option.kind for way in ways}:
        width = np.array([way.option.devices * (way.option.kind == kind) for way in ways])
        good &= width @ counts <= devices.get(kind, 0)
    if not good.any():
        return None
    best = int(np.argmin(np.where(good, cost, np.inf)))
    return Mix(
        counts=tuple(int(one) for one in counts[:, best]),
        dollars=float(cost[best]),
        capacity=float(capacity[best]),
    )


def _solved(
    ways: Sequence[Way],
    devices: Mapping[str, int],
    rate: float,
    *,
    least: int,
    most: int,
    seconds: float,
) -> Mix | None:
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
