"""What may be had, one column for each offer and setup, with the load that a request puts on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.market import Offer
from meted.policy.fleet.capacity import Alone, alone, largest_rate
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.fleet.traffic import Bucket
from meted.policy.fleet.wish import FleetWish, Metric
from meted.predict.counting import weight_bytes
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import DoesNotFitError, Setup

CHUNK = " chunk "
"""In a column's label, before the tokens of its chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Replicas of one setup on devices of one offer.

    offer: its place in the wish. rates: of each class of requests alone, the arrivals per second
    that one replica holds; None where it holds none. facets: several such rows that all bound the
    load from below (`bound.py`), empty where `rates` does.
    """

    offer: int
    kind: str
    label: str
    devices: int
    rates: tuple[float | None, ...]
    setup: Setup | None = None
    replica: ReplicaModel | None = None
    facets: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A setup that fits in memory, with its replica."""

    setup: Setup
    replica: ReplicaModel


def candidates(wish: FleetWish) -> tuple[Candidate, ...]:
    """Setups of all offered kinds and allowed algorithms that fit in memory.

    Raises InfeasibleError if none does.
    """
    found: list[Candidate] = []
    closest: tuple[float, DoesNotFitError] | None = None
    for name in sorted({offer.kind for offer in wish.offers}):
        kind = wish.kinds[name]
        for algorithm in wish.algorithms:
            if (
                algorithm.compute not in kind.peak_flops
                or algorithm.parallelism.tensor > kind.node_devices
            ):
                continue
            setup = Setup(architecture=wish.architecture, kind=kind, algorithm=algorithm)
            try:
                found.append(Candidate(setup=setup, replica=wish.replica_of(setup)))
            except DoesNotFitError as error:
                room = kind.memory_bytes * algorithm.memory_share * algorithm.parallelism.devices
                missing = weight_bytes(wish.architecture, algorithm.weights) / room
                if closest is None or missing < closest[0]:
                    closest = missing, error
    if found:
        return tuple(found)
    if closest is None:
        raise InfeasibleError(
            f"none of the kinds {', '.join(sorted({one.kind for one in wish.offers}))} computes in "
            "a precision of the allowed algorithms; allow another precision",
            constraint="precision", asked=0, nearest=None, unit="",
        )  # fmt: skip
    raise InfeasibleError(
        f"{closest[1]}; the setup that comes nearest has {1 / closest[0]:.0%} of the memory",
        constraint="memory", asked=1.0, nearest=closest[0], unit="times the memory",
    )  # fmt: skip


def columns(wish: FleetWish, buckets: Sequence[Bucket]) -> tuple[Column, ...]:
    """Every column that another one of the same offer does not dominate.

    Raises InfeasibleError that names the limit if some class of requests has no column.
    """
    fitting = candidates(wish)
    rated = list(zip(*(_rates(wish, fitting, bucket) for bucket in buckets), strict=True))
    found = [
        Column(
            offer=place,
            kind=offer.kind,
            label=label(offer, one.setup),
            devices=one.replica.devices,
            rates=rates,
            setup=one.setup,
            replica=one.replica,
        )
        for place, offer in enumerate(wish.offers)
        for one, rates in zip(fitting, rated, strict=True)
        if one.setup.kind is wish.kinds[offer.kind] and any(rates)
    ]
    for number, bucket in enumerate(buckets):
        if bucket.arrivals_per_second > 0 and not any(one.rates[number] for one in found):
            raise out_of_reach(wish, bucket, [one.replica for one in fitting])
    return undominated(found)


def _rates(wish: FleetWish, fitting: Sequence[Candidate], bucket: Bucket) -> list[float | None]:
    """What each candidate holds of a class. Where full chunks would break the limit on TPOT's tail
    on all of them, the mean step counts: chunks may be full too rarely to show in the replay."""
    rates = [largest_rate(one.replica, bucket, wish.limits) for one in fitting]
    if any(rates):
        return rates
    return [largest_rate(one.replica, bucket, wish.limits, strict=False) for one in fitting]


def label(offer: Offer, setup: Setup) -> str:
    """A name for a row that a reader tells from the others."""
    algorithm = setup.algorithm
    where = " ".join(part for part in (offer.provider, offer.region) if part)
    layout = "" if algorithm.parallelism.devices == 1 else f" {algorithm.parallelism}"
    return (
        f"{offer.kind} {offer.purchase}{' ' + where if where else ''}{layout} {algorithm.weights}"
        f"{'' if algorithm.compute is algorithm.weights else '/' + algorithm.compute}"
        f"{CHUNK}{algorithm.chunk_tokens}"
    )


def undominated(found: Sequence[Column]) -> tuple[Column, ...]:
    """Columns without those that another of the same offer beats in every class for no more
    devices. Of equal ones the first stays."""
    kept: list[Column] = []
    for place, one in enumerate(found):
        beaten = any(
            other.offer == one.offer
            and other.devices <= one.devices
            and all((a or 0.0) >= (b or 0.0) for a, b in zip(other.rates, one.rates, strict=True))
            and (other.rates != one.rates or other.devices < one.devices or before < place)
            for before, other in enumerate(found)
            if before != place
        )
        if not beaten:
            kept.append(one)
    return tuple(kept)


def out_of_reach(
    wish: FleetWish, bucket: Bucket, replicas: Sequence[ReplicaModel]
) -> InfeasibleError:
    """Which limit keeps every replica from serving a class, and the nearest value that would not.

    A limit is to blame if the class could be served without it; its nearest value is the least
    that a replica inside all other limits attains with nobody else on it.
    """
    said = f"{bucket.prompt_tokens:.0f} prompt and {bucket.output_tokens:.0f} output tokens"
    held = bucket.prompt_tokens + bucket.output_tokens
    roomy = [one for one in replicas if one.kv_tokens >= held]
    if not roomy:
        most = max(one.kv_tokens for one in replicas)
        return InfeasibleError(
            f"requests of {said} need {held:.0f} tokens of KV cache; the most that an allowed "
            f"setup holds is {most}; take more devices a replica or fewer bits",
            constraint="memory", asked=held, nearest=float(most), unit="tokens",
        )  # fmt: skip
    felt = [alone(one, bucket, tail=False) for one in roomy]
    for limit in wish.limits:
        others = [one for one in wish.limits if one is not limit]
        inside = [
            one for one in felt if all(one.of(other.metric) <= other.micros for other in others)
        ]
        if inside:
            return _too_tight(wish, limit.metric, inside, said)
    hardest = max(
        wish.limits, key=lambda limit: min(one.of(limit.metric) for one in felt) / limit.micros
    )
    return _too_tight(wish, hardest.metric, felt, said)


def _too_tight(
    wish: FleetWish, metric: Metric, felt: Sequence[Alone], said: str
) -> InfeasibleError:
    limit = min((one for one in wish.limits if one.metric is metric), key=lambda one: one.micros)
    nearest = min(one.of(metric) for one in felt)
    return InfeasibleError(
        f"{limit.name} is limited to {limit.micros / 1000:.1f} ms, but requests of {said} take "
        f"{nearest / 1000:.1f} ms on the fastest allowed setup with nobody else on it; allow "
        f"{nearest / 1000:.0f} ms, faster kinds or more devices a replica",
        constraint=limit.name, asked=float(limit.micros), nearest=nearest, unit="us",
    )  # fmt: skip


def dollars_per_hour(offer: Offer, wish: FleetWish) -> float:
    """What an hour of one of the offer's devices adds to the bill."""
    if offer.purchase == "owned":
        return wish.nano_usd_per_kwh / 1e9 * wish.kinds[offer.kind].watts_busy / 1000
    return offer.nano_usd_per_device_hour / 1e9
