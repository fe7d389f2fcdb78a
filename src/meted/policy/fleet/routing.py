"""Which replica a request goes to: the one that would be through with it first."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

from meted.domain.units import MICROS_PER_SECOND
from meted.policy.fleet.columns import Column
from meted.policy.fleet.traffic import Bucket, bucket_of
from meted.predict.batching import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """places: of the arrivals that go to each replica, by (column, replica). buckets: the class of
    each arrival."""

    places: dict[tuple[int, int], list[int]]
    buckets: list[int]


def route(
    *,
    columns: Sequence[Column],
    replicas: Sequence[int],
    arrivals: Sequence[Arrival],
    buckets: Sequence[Bucket],
) -> Routed:
    """The replica of each arrival.

    A replica's backlog is the work that was sent to it less the time since then, in seconds of its
    whole capacity (1 / rate of the request's class), so the router needs no word from the engines
    and knows a request by its prompt only. Classes that a column cannot hold inside the limits do
    not go there, unless no column can.
    """
    free: dict[int, list[tuple[float, int]]] = {
        number: [(0.0, one) for one in range(count)]
        for number, count in enumerate(replicas)
        if count > 0
    }
    routed: dict[tuple[int, int], list[int]] = {
        (number, one): [] for number, heap in free.items() for _, one in heap
    }
    works = [
        [(number, 1.0 / rate) for number in free if (rate := columns[number].rates[bucket])]
        for bucket in range(len(buckets))
    ]
    anyone = [(number, 1.0) for number in free]
    works = [row or anyone for row in works]
    known: dict[tuple[int, int], int] = {}
    classes: list[int] = []
    for place, arrival in enumerate(arrivals):
        lengths = (arrival.prompt_tokens, arrival.output_tokens)
        bucket = known.get(lengths)
        if bucket is None:
            bucket = known[lengths] = bucket_of(arrival, buckets)
        classes.append(bucket)
        now = arrival.at / MICROS_PER_SECOND
        soonest, chosen = min(
            (max(now, free[number][0][0]) + work, number) for number, work in works[bucket]
        )
        _, replica = free[chosen][0]
        heapreplace(free[chosen], (soonest, replica))
        routed[chosen, replica].append(place)
    return Routed(places=routed, buckets=classes)
