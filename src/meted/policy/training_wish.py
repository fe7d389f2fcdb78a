"""What is wished of a training run: a model, tokens, devices to choose from, and limits."""

from dataclasses import dataclass

from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.market import Offer
from meted.domain.training_algorithm import Optimizer
from meted.domain.units import NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoice:
    """So many devices of a kind to train on. offer: what they cost, None for no price."""

    kind: DeviceKind
    devices: int
    offer: Offer | None = None

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise ValueError(f"devices of {self.kind.name} is {self.devices}, expected 1 or more")

    def __str__(self) -> str:
        return f"{self.devices} x {self.kind.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWish:
    """A training run to plan.

    tokens: to train on, all epochs together. choices: devices, of which one is taken. None where
    the planner may choose: sequence_tokens (2048, or the model's context if shorter), global_batch
    in sequences (by the size of the model as GPT-3 did, 32 for adapters), gradients' precision is
    the arithmetic's. lora_rank: train adapters only. frozen: precision of frozen weights.
    deadline_hours, budget_nano_usd: limits that the expected run must keep. storage: bytes per
    second that all devices together write of a checkpoint.
    """

    architecture: Architecture
    tokens: int
    choices: tuple[TrainingChoice, ...]
    sequence_tokens: int | None = None
    global_batch: int | None = None
    optimizer: Optimizer = Optimizer.ADAMW
    precision: Precision = Precision.BF16
    flash_attention: bool = True
    lora_rank: int | None = None
    frozen: Precision = Precision.BF16
    deadline_hours: float | None = None
    budget_nano_usd: NanoUSD | None = None
    storage_bytes_per_second: float = 10e9

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens to train on is {self.tokens}, expected 1 or more")
        if not self.choices:
            raise ValueError("choices of devices is empty, expected at least one")
        for name in ("sequence_tokens", "global_batch", "lora_rank"):
            value: int | None = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        for name in ("deadline_hours", "budget_nano_usd", "storage_bytes_per_second"):
            limit: float | None = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit}, expected more than 0")
