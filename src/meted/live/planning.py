"""What `meted plan` asks, from text and files to a wish of the planner."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.catalogue import lookup_device_kind
from meted.domain.catalogue.example_prices import EXAMPLE_PRICES
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.market import Offer, Purchase
from meted.domain.pool import Pool
from meted.domain.training_algorithm import Optimizer
from meted.domain.units import Micros, NanoUSD
from meted.live.books.recorded import recorded_arrivals
from meted.live.calibrations import Calibrations, believe
from meted.live.config import HERE, load_config
from meted.live.dollars import decimal
from meted.live.facts import FactsFile, resolve_model
from meted.live.facts.price_file import read_price_file
from meted.live.home import Home
from meted.live.predicted import local_kind, usual_algorithm
from meted.live.traffic import HOUSE, WishedTraffic, parse_traffic, recorded_traffic
from meted.policy.fleet.wish import (
    FleetWish,
    LatencyLimit,
    Metric,
    SpotRule,
    TrainingWish,
    serving_algorithms,
)
from meted.policy.training_wish import TrainingChoice
from meted.policy.training_wish import TrainingWish as TrainingPlanWish
from meted.predict.cores import CORE_PREFIX
from meted.predict.replica import ReplicaModel
from meted.predict.setup import Setup

MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "": 1_000_000}
_LIMIT = re.compile(
    r"(ttft|tpot|e2e)_(mean|p([0-9]{1,2}(?:\.[0-9]{1,3})?))=([0-9.]+)(us|ms|s|)",
    re.ASCII,
)


class WishError(ValueError):
    """A wish that cannot be understood: which part, its value, what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `meted plan`. devices: kinds, none for all that are offered. tensor: allowed
    widths. spot: the largest share of spot devices, None for no spot at all."""

    model: str
    traffic: str
    rate: float | None = None
    day: str = "flat"
    slo: str
    prices: Path | None = None
    devices: tuple[str, ...] = ()
    weights: tuple[Precision, ...] = ()
    tensor: tuple[int, ...] = ()
    prefix_hit: float = 0.0
    spot: float | None = None
    spare: int = 1
    training: tuple[TrainingWish, ...] = ()
    budget: NanoUSD | None = None
    kwh: NanoUSD = NanoUSD(0)
    margin: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """A wish, and what to tell about the facts in it. cores: of this machine, if it is wished."""

    wish: FleetWish
    traffic: WishedTraffic
    facts: tuple[str, ...]
    cores: int = 0


def wish_of(asked: Asked, *, home: Home, facts: FactsFile) -> Wished:
    """The wish behind options. Raises WishError, TrafficError, FactError or UnknownFactError."""
    found = resolve_model(asked.model, home=home, facts=facts)
    kinds, offers, told = _market(asked, home=home, facts=facts)
    longest = found.architecture.positions
    if asked.traffic == HOUSE:
        traffic = recorded_traffic(
            recorded_arrivals(home.store()), rate=asked.rate, day=asked.day, longest=longest
        )
    else:
        traffic = parse_traffic(
            asked.traffic, rate=asked.rate, day=asked.day, seed=asked.seed, longest=longest
        )
    weights = asked.weights or ((found.weights,) if found.weights else ())
    wish = FleetWish(
        architecture=found.architecture,
        algorithms=_algorithms(asked, weights, tuple(kinds.values())),
        traffic=traffic.traffic,
        limits=parse_slo(asked.slo),
        offers=offers,
        kinds=kinds,
        training=asked.training,
        budget=asked.budget,
        spot=SpotRule(spare=asked.spare, most_share=asked.spot or 0.0),
        nano_usd_per_kwh=asked.kwh,
        margin=asked.margin,
        replica_of=_predicted(home),
    )
    return Wished(
        wish=wish,
        traffic=traffic,
        facts=(f"model: {found.architecture.name}, {found.architecture.source}", *told),
        cores=len(_pool().devices) if HERE in asked.devices else 0,
    )


def parse_slo(text: str) -> tuple[LatencyLimit, ...]:
    """Limits such as `ttft_p99=2s,tpot_p99=120ms,e2e_mean=20s`. Raises WishError."""
    limits: list[LatencyLimit] = []
    for part in text.split(","):
        found = _LIMIT.fullmatch(part.strip())
        if found is None:
            raise WishError(
                f"--slo says {part.strip()!r}, expected limits such as ttft_p99=2s, tpot_p95=80ms "
                "or e2e_mean=20s, with commas between them"
            )
        metric, name, percent, value, unit = found.groups()
        quantile = None if name == "mean" else float(percent) / 100
        try:
            micros = Micros(round(float(value) * MICROS[unit]))
            limits.append(LatencyLimit(metric=Metric(metric), quantile=quantile, micros=micros))
        except ValueError as error:
            raise WishError(f"--slo says {part.strip()!r}: {error}") from error
    names = [one.name for one in limits]
    for name in names:
        if names.count(name) > 1:
            raise WishError(f"--slo limits {name} twice; give it once")
    return tuple(limits)


def _market(
    asked: Asked, *, home: Home, facts: FactsFile
) -> tuple[dict[str, DeviceKind], tuple[Offer, ...], list[str]]:
    """The kinds that may be had, their offers, and where these come from."""
    told: list[str] = []
    if asked.prices is None:
        # Nobody owns the devices of an example.
        offers = tuple(one for one in EXAMPLE_PRICES if one.purchase is not Purchase.OWNED)
        told.append(
            "prices: built-in examples of 2025, no offer to rely on; give your own: --prices"
        )
    else:
        offers = read_price_file(asked.prices, facts.devices)
        told.append(f"prices: {asked.prices}")
    local: list[tuple[DeviceKind, Offer]] = []
    wanted: dict[str, DeviceKind] = {}
    for name in asked.devices:
        if name == HERE:
            kind, offer = _here(home)
            local.append((kind, offer))
            told.append(f"this machine: {kind.title}, priced by the configuration")
        else:
            kind = lookup_device_kind(name, facts.devices)
            wanted[kind.name] = kind
    for one in offers:
        if one.purchase is Purchase.OWNED and one.available is None:
            raise WishError(
                f"{asked.prices}: {one.kind} is owned, but not how many of them; add `available`"
            )
    if asked.devices:
        offers = tuple(one for one in offers if one.kind in wanted)
        for name in wanted:
            if not any(one.kind == name for one in offers):
                raise WishError(
                    f"no price is known for {name}; add an offer of it to a price file and give "
                    "that with --prices"
                )
    else:
        offers = tuple(one for one in offers if not one.kind.startswith(CORE_PREFIX))
    if asked.spot is None:
        offers = tuple(one for one in offers if one.purchase is not Purchase.SPOT)
    offers += tuple(offer for _, offer in local)
    if not offers:
        raise WishError("no offer is left; give --prices with one, --devices, or --spot 1")
    kinds = {one.kind: lookup_device_kind(one.kind, facts.devices) for one in offers
             if one.kind not in {kind.name for kind, _ in local}}  # fmt: skip
    kinds.update({kind.name: kind for kind, _ in local})
    for name in sorted(kinds):
        dates = sorted({one.dated for one in offers if one.kind == name and one.dated})
        dated = f"; prices dated {', '.join(dates)}" if dates else ""
        told.append(f"{name}: {kinds[name].source}{dated}")
    return kinds, offers, told


def _here(home: Home) -> tuple[DeviceKind, Offer]:
    """This machine's cores as one device, at the price of its configuration."""
    pool = _pool()
    kind = local_kind(home.calibrations, len(pool.devices))
    hourly = pool.price.nano_usd_per_device_hour * len(pool.devices)
    return kind, Offer(
        kind=kind.name,
        purchase=Purchase.ON_DEMAND,
        nano_usd_per_device_hour=NanoUSD(hourly),
        available=1,
        provider=HERE,
        source="pool.price_usd_per_device_hour",
    )


def _pool() -> Pool:
    """The cores that `meted up` would allot here, and their price."""
    path = Path("meted.yaml")
    return load_config(path if path.exists() else None).pool


def _algorithms(
    asked: Asked, weights: Sequence[Precision], kinds: Sequence[DeviceKind]
) -> tuple[ServingAlgorithm, ...]:
    """The ways to serve that are allowed. Weights stay in 16 bits unless others are named, since
    fewer bits change answers."""
    cores = [one for one in kinds if one.name.startswith(CORE_PREFIX)]
    others = [one for one in kinds if one not in cores]
    found: list[ServingAlgorithm] = []
    if others:
        kept = list(weights) or [Precision.BF16]
        if Precision.BF16 in kept and any(Precision.BF16 not in one.peak_flops for one in others):
            kept.append(Precision.FP16)
        found += serving_algorithms(
            weights=kept, tensor=asked.tensor or (1, 2, 4, 8, 16), prefix_hit=asked.prefix_hit
        )
    for kind in cores:
        for kept_as in weights or [None]:
            usual = usual_algorithm(kind, kept_as, layout=Parallelism())
            found.append(replace(usual, prefix_hit=asked.prefix_hit))
    return tuple(dict.fromkeys(found))


def _predicted(home: Home) -> Callable[[Setup], ReplicaModel]:
    """Replicas by what this home has measured of their family on their kind, else by the prior."""
    kept = Calibrations(home.calibrations)

    def replica_of(setup: Setup) -> ReplicaModel:
        belief = believe(setup, kept)
        return belief.before.replica(belief.setup)

    return replica_of


def training_wish_of(
    *,
    home: Home,
    facts: FactsFile,
    model: str,
    tokens: int,
    devices: Sequence[tuple[int, str]],
    prices: Path | None,
    seq: int | None,
    global_batch: int | None,
    optimizer: str,
    lora: int | None,
    deadline: float | None,
    budget: NanoUSD | None,
) -> tuple[TrainingPlanWish, tuple[str, ...]]:
    """The wish behind the options of `meted plan train`, and where its facts come from.

    Each choice of devices takes the cheapest offer that is not spot, for a run of weeks would lose
    its spot devices. Raises WishError, FactError or UnknownFactError.
    """
    found = resolve_model(model, home=home, facts=facts)
    offers = EXAMPLE_PRICES if prices is None else read_price_file(prices, facts.devices)
    told = [f"model: {found.architecture.name}, {found.architecture.source}"]
    told.append(
        "prices: built-in examples of 2025, no offer to rely on; give your own: --prices"
        if prices is None
        else f"prices: {prices}"
    )
    choices: list[TrainingChoice] = []
    for count, name in devices:
        kind = (
            local_kind(home.calibrations, count)
            if name == HERE
            else lookup_device_kind(name, facts.devices)
        )
        offer = _cheapest(offers, kind.name)
        if name == HERE:
            count, offer = 1, _here(home)[1]
        choices.append(TrainingChoice(kind=kind, devices=count, offer=offer))
        priced = "no price is known" if offer is None else _offer_words(offer)
        told.append(f"{kind.name}: {kind.source}; {priced}")
    names = [one.value for one in Optimizer]
    if optimizer not in names:
        raise WishError(f"--optimizer is {optimizer!r}, expected one of {', '.join(names)}")
    wish = TrainingPlanWish(
        architecture=found.architecture,
        tokens=tokens,
        choices=tuple(choices),
        sequence_tokens=seq,
        global_batch=global_batch,
        optimizer=Optimizer(optimizer),
        precision=_training_precision(choices),
        lora_rank=lora,
        deadline_hours=deadline,
        budget_nano_usd=budget,
    )
    return wish, tuple(told)


def _training_precision(choices: Sequence[TrainingChoice]) -> Precision:
    """bf16 where every kind has it, else fp16, else fp32."""
    for one in (Precision.BF16, Precision.FP16):
        if all(one in choice.kind.peak_flops for choice in choices):
            return one
    return Precision.FP32


def _cheapest(offers: Sequence[Offer], kind: str) -> Offer | None:
    fitting = [one for one in offers if one.kind == kind and one.purchase is not Purchase.SPOT]
    return min(fitting, key=lambda one: one.nano_usd_per_device_hour, default=None)


def _offer_words(offer: Offer) -> str:
    place = f" of {offer.provider}" if offer.provider else ""
    dated = f", dated {offer.dated}" if offer.dated else ""
    return f"{decimal(offer.nano_usd_per_device_hour)} $/h {offer.purchase}{place}{dated}"
