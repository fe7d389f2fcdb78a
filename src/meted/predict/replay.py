"""Requests replayed through replicas, one by one: what their clients would feel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meted.domain.units import Micros
from meted.predict.batching import Arrival, Batcher, Served
from meted.predict.replica import ReplicaModel


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a router may know of a replica. devices: how many it occupies."""

    queued: int
    running: int
    devices: int


Route = Callable[[Arrival, Sequence[ReplicaLoad]], int]
"""Which replica an arrival goes to, by its place in the fleet."""


def least_outstanding(arrival: Arrival, loads: Sequence[ReplicaLoad]) -> int:
    """The replica with the fewest requests, the first of several."""
    outstanding = [load.queued + load.running for load in loads]
    return outstanding.index(min(outstanding))


def replay(
    replica: ReplicaModel, arrivals: Sequence[Arrival], *, ahead: bool = False
) -> tuple[Served, ...]:
    """What becomes of requests, in order of arrival, on one replica that has nothing else to do.

    Raises ValueError for a request that the replica could never hold.
    """
    batcher = Batcher(replica=replica, ahead=ahead)
    served = tuple(Served(one) for one in arrivals)
    for one in served:
        batcher.add(one)
    batcher.advance()
    return served


def replay_fleet(
    replicas: Sequence[ReplicaModel],
    arrivals: Sequence[Arrival],
    route: Route = least_outstanding,
    *,
    ahead: bool = False,
) -> tuple[Served, ...]:
    """What becomes of requests that a router spreads over replicas as they come.

    The router sees each replica as it is when the step that runs at that moment began.
    """
    batchers = [Batcher(replica=one, ahead=ahead) for one in replicas]
    served: list[Served] = []
    for arrival in arrivals:
        for batcher in batchers:
            batcher.advance(arrival.at)
        loads = [ReplicaLoad(one.queued, one.running, one.replica.devices) for one in batchers]
        place = route(arrival, loads)
        served.append(Served(arrival, replica=place))
        batchers[place].add(served[-1])
    for batcher in batchers:
        batcher.advance()
    return tuple(served)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Latencies of served requests in microseconds, in their order. tpot is nan for a request of
    one output token."""

    ttft: NDArray[np.float64]
    tpot: NDArray[np.float64]
    e2e: NDArray[np.float64]


def latencies(served: Sequence[Served]) -> Latencies:
    """What the clients of served requests felt."""
    came = np.array([one.arrival.at for one in served], dtype=np.float64)
    first = np.array([one.first_token for one in served], dtype=np.float64)
    last = np.array([one.last_token for one in served], dtype=np.float64)
    later = np.array([one.arrival.output_tokens - 1 for one in served], dtype=np.float64)
    tpot = np.divide(last - first, later, out=np.full(len(served), np.nan), where=later > 0)
    return Latencies(ttft=first - came, tpot=tpot, e2e=last - came)


def quantile(values: NDArray[np.float64], share: float) -> Micros:
    """The smallest value that at least `share` of the values do not exceed; nan left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Micros(0)
    return Micros(round(float(np.quantile(known, share, method="inverted_cdf"))))
