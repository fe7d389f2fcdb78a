"""What a user wishes of a fleet: the model, its traffic and limits, and what may be had for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.market import Offer
from meted.domain.units import Micros, NanoUSD
from meted.policy.fleet.traffic import HOURS_PER_MONTH, Traffic
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Setup, predict_replica


class Metric(StrEnum):
    """A latency that clients feel."""

    TTFT = "ttft"
    TPOT = "tpot"
    E2E = "e2e"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """A quantile of a latency, None for its mean, that may be at most `micros`."""

    metric: Metric
    quantile: float | None
    micros: Micros

    def __post_init__(self) -> None:
        if self.micros <= 0 or not (self.quantile is None or 0 < self.quantile < 1):
            raise ValueError(
                f"{self.name} is limited to {self.micros} us, expected a quantile inside 0 and 1 "
                "and a limit above 0"
            )

    @property
    def name(self) -> str:
        """As it is written on the command line, such as ttft_p99."""
        if self.quantile is None:
            return f"{self.metric}_mean"
        return f"{self.metric}_p{self.quantile * 100:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWish:
    """Training that the month must hold. device_hours: what it takes on each kind it may run on.
    deadline_hours: from the month's start, by when it must be done."""

    name: str
    device_hours: Mapping[str, float]
    deadline_hours: float = HOURS_PER_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotRule:
    """spare: replicas of each spot row whose loss, all at once, still leaves enough. most_share:
    of the devices of a period, the part that may be spot."""

    spare: int = 1
    most_share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWish:
    """kinds: by the name that offers use. budget: for a month, None for no limit.
    nano_usd_per_kwh: electricity of owned devices that are on; their own price is sunk and is paid
    whether they run or not. margin: how much denser than the traffic the replayed traffic is: a
    fleet at its edge passes one draw of arrivals and fails the next. replayed_requests: in each
    period's replay at least. replica_of: the replica that a setup makes, calibrated or not.
    """

    architecture: Architecture
    algorithms: tuple[ServingAlgorithm, ...]
    traffic: Traffic
    limits: tuple[LatencyLimit, ...]
    offers: tuple[Offer, ...]
    kinds: Mapping[str, DeviceKind]
    training: tuple[TrainingWish, ...] = ()
    budget: NanoUSD | None = None
    spot: SpotRule = field(default_factory=SpotRule)
    nano_usd_per_kwh: NanoUSD = NanoUSD(0)
    margin: float = 0.05
    replayed_requests: int = 8_000
    replica_of: Callable[[Setup], ReplicaModel] = predict_replica

    def __post_init__(self) -> None:
        if not self.offers or not self.algorithms:
            raise ValueError("the wish has no offer or no algorithm, expected one or more of each")
        for offer in self.offers:
            if offer.kind not in self.kinds:
                raise ValueError(
                    f"an offer is of kind {offer.kind!r}, known are "
                    f"{', '.join(sorted(self.kinds))}; describe the kind or drop the offer"
                )
        if len({one.name for one in self.training}) < len(self.training):
            raise ValueError("two training wishes have the same name; name each once")


CHUNKS = (256, 512, 1024, 2048, 4096)
_COMPUTE = {
    Precision.FP32: (Precision.FP32,),
    Precision.BF16: (Precision.BF16,),
    Precision.FP16: (Precision.FP16,),
    Precision.FP8: (Precision.FP8, Precision.BF16),
    Precision.INT8: (Precision.INT8, Precision.BF16),
    Precision.INT4: (Precision.BF16,),
}


def serving_algorithms(
    *,
    weights: Sequence[Precision] = (Precision.BF16,),
    tensor: Sequence[int] = (1, 2, 4, 8),
    pipeline: Sequence[int] = (1,),
    chunks: Sequence[int] = CHUNKS,
    max_batch: int = 256,
    prefix_hit: float = 0.0,
) -> tuple[ServingAlgorithm, ...]:
    """Every combination of the ways that are allowed. The smaller a step's chunk of prompt tokens,
    the steadier TPOT and the later the first token, so the planner chooses it too."""
    return tuple(
        ServingAlgorithm(
            weights=kept,
            kv=kept if kept in (Precision.FP32, Precision.FP16) else Precision.BF16,
            compute=compute,
            parallelism=Parallelism(tensor=width, pipeline=stages),
            chunk_tokens=chunk,
            max_batch=max_batch,
            prefix_hit=prefix_hit,
        )
        for kept, width, stages, chunk in product(weights, tensor, pipeline, chunks)
        for compute in _COMPUTE[kept]
    )
