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
    """What a router may know of a replica. devices: how many it occupies. kv_used: share of its KV
    cache that is taken. place: its place in the whole fleet."""

    queued: int
    running: int
    devices: int
    kv_used: float = 0.0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Up:
    """When a replica takes new requests: from `since` and before `until`, None for ever. What it
    has taken by then it still answers."""

    since: Micros = Micros(0)
    until: Micros | None = None

    def at(self, moment: Micros) -> bool:
        return self.since <= moment and (self.until is None or moment < self.until)


class NoReplicaError(ValueError):
    """A request came while no replica took any."""


Route = Callable[[Arrival, Sequence[ReplicaLoad]], int]
"""Which of the replicas that take requests an arrival goes to, by its place in the loads."""


def least_outstanding(arrival: Arrival, loads: Sequence[ReplicaLoad]) -> int:
    """The replica with the fewest requests, the first of several."""
    outstanding = [load.queued + load.running for load in loads]
    return outstanding.index(min(outstanding))


def weighted(weights: Sequence[float]) -> Route:
    """A router that fills replicas in proportion to weights, such as their requests per second: to
    the one that would have the fewest requests for its weight. weights: by place in the fleet."""

    def lightest(arrival: Arrival, loads: Sequence[ReplicaLoad]) -> int:
        shares = [(load.queued + load.running + 1) / weights[load.place] for load in loads]
        return shares.index(min(shares))

    return lightest


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
    up: Sequence[Up] | None = None,
    ahead: bool = False,
) -> tuple[Served, ...]:
    """What becomes of requests that a router spreads over replicas as they come.

    The router sees each replica as it is when the step that runs at that moment began. up: when
    each replica takes requests; all the time if None.
    Raises NoReplicaError if a request comes while none does.
    """
    if up is not None and len(up) != len(replicas):
        raise ValueError(f"up has {len(up)} spans for {len(replicas)} replicas, expected one each")
    batchers = [Batcher(replica=one, ahead=ahead) for one in replicas]
    served: list[Served] = []
    for arrival in arrivals:
        loads: list[ReplicaLoad] = []
        for place, batcher in enumerate(batchers):
            batcher.advance(arrival.at)
            if up is None or up[place].at(arrival.at):
                loads.append(_load(batcher, place))
        if not loads:
            raise NoReplicaError(
                f"a request comes at {arrival.at} us, when none of {len(replicas)} replicas takes "
                "any; let one be up then"
            )
        place = loads[route(arrival, loads)].place
        served.append(Served(arrival, replica=place))
        batchers[place].add(served[-1])
    for batcher in batchers:
        batcher.advance()
    return tuple(served)


def _load(batcher: Batcher, place: int) -> ReplicaLoad:
    return ReplicaLoad(
        queued=batcher.queued,
        running=batcher.running,
        devices=batcher.replica.devices,
        kv_used=batcher.kv_used,
        place=place,
    )


def busy_micros(served: Sequence[Served], replica: int = 0) -> int:
    """How long a replica had work: it works whenever it has a request, so the union of their stays.

    served: in order of arrival, all of them ended.
    """
    busy = end = 0
    for one in served:
        if one.replica == replica:
            busy += max(0, one.last_token - max(one.arrival.at, end))
            end = max(end, one.last_token)
    return busy


def attainment(values: NDArray[np.float64], limit: Micros) -> float:
    """Share of values inside a limit; nan left out, 1 if none is left."""
    known = values[~np.isnan(values)]
    return float(np.mean(known <= limit)) if len(known) else 1.0


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
