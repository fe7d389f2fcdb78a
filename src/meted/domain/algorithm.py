"""A: how a model is run on its devices."""

from dataclasses import dataclass
from typing import Self

from meted.domain.architecture import Architecture
from meted.domain.device_kind import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """How a model is laid over devices.

    tensor: devices that share each matrix. pipeline: stages of layers. data: copies of a training
    job. expert: devices over which a layer's experts are spread, inside tensor * data.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "data", "expert"):
            value: int = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} parallelism is {value}, expected 1 or more")
        if (self.tensor * self.data) % self.expert:
            raise ValueError(
                f"expert parallelism is {self.expert}, expected a divisor of tensor * data, "
                f"{self.tensor * self.data}"
            )

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data

    def __str__(self) -> str:
        parts = {"tp": self.tensor, "pp": self.pipeline, "dp": self.data, "ep": self.expert}
        told = [f"{name}{size}" for name, size in parts.items() if size > 1]
        return "-".join(told) or "one device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Speculative decoding (Leviathan et al. 2023).

    draft: the small model, or None for lookup in the prompt, which costs nothing. tokens: proposed
    in a round. acceptance: chance that one proposed token is kept.
    """

    draft: Architecture | None
    tokens: int
    acceptance: float

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"speculation proposes {self.tokens} tokens, expected 1 or more")
        if not 0 <= self.acceptance <= 1:
            raise ValueError(f"acceptance is {self.acceptance}, expected from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingAlgorithm:
    """How a replica serves.

    weights, kv: as which weights and the KV cache are kept. compute: precision of the arithmetic.
    chunk_tokens: most tokens that a step takes in (chunked prefill). max_batch: most requests at
    once. prefix_hit: share of prompt tokens found in the prefix cache. memory_share: part of the
    device memory that weights, workspace and KV cache may fill.
    """

    weights: Precision = Precision.BF16
    kv: Precision = Precision.BF16
    compute: Precision = Precision.BF16
    parallelism: Parallelism = Parallelism()
    chunk_tokens: int = 2048
    max_batch: int = 256
    prefix_hit: float = 0.0
    memory_share: float = 0.9
    speculation: Speculation | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.prefix_hit < 1:
            raise ValueError(f"prefix_hit is {self.prefix_hit}, expected 0 or more, below 1")
        if not 0 < self.memory_share <= 1:
            raise ValueError(f"memory_share is {self.memory_share}, expected above 0, at most 1")
        if self.chunk_tokens < 1 or self.max_batch < 1:
            raise ValueError(
                f"chunk_tokens is {self.chunk_tokens} and max_batch {self.max_batch}, "
                "expected 1 or more"
            )

    @classmethod
    def on_cpu(cls, *, max_batch: int) -> Self:
        """int8 weights and bf16 KV cache, as this house's own engine runs on processor cores."""
        return cls(weights=Precision.INT8, compute=Precision.INT8, max_batch=max_batch)
