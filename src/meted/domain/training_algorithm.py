"""A for training: how a model is trained on its devices."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.algorithm import Parallelism
from meted.domain.device_kind import Precision


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    SGD = "sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"
    ADAMW = "adamw"
    ADAM8BIT = "adam8bit"
    ADAFACTOR = "adafactor"

    def state_bytes(self, width: int) -> float:
        """Bytes of optimizer state per trained parameter, master weights aside.

        Moments in fp32: none for SGD, one for momentum, two for Adam (Kingma, Ba 2015). adam8bit:
        two of one byte and an fp32 scale per block of 2048 each (Dettmers et al. 2022). adafactor:
        a row and a column of a matrix `width` wide and four times as long (Shazeer, Stern 2018).
        """
        match self:
            case Optimizer.SGD:
                return 0.0
            case Optimizer.MOMENTUM:
                return 4.0
            case Optimizer.ADAM | Optimizer.ADAMW:
                return 8.0
            case Optimizer.ADAM8BIT:
                return 2.0 * (1 + 4 / 2048)
            case Optimizer.ADAFACTOR:
                return 4.0 * 5 / (4 * width)


class Recomputation(StrEnum):
    """Which activations the backward pass computes again: none, the attention scores (selective,
    Korthikanti et al. 2022), or all of a layer (full, Chen et al. 2016)."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAlgorithm:
    """How a model is trained.

    precision: of arithmetic, weights and activations. gradients: as they are kept and summed.
    master_weights: a fp32 copy beside 16-bit weights. micro_batch: sequences of one device group
    at once. global_batch: sequences of one optimizer step. sequence_tokens: tokens of a sequence.
    flash_attention: attention scores are never stored (Dao et al. 2022). zero: what the data
    copies share: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too (ZeRO, Rajbhandari
    et al. 2020; FSDP is 3). lora_rank: adapters of that rank on every matrix of the layers are
    trained and the rest is frozen, None to train all. frozen: as frozen weights are kept; below
    16 bits it is QLoRA. interleave: chunks of layers of a pipeline stage (Narayanan et al. 2021).

    Raises ValueError, naming the fact, if one is impossible.
    """

    optimizer: Optimizer = Optimizer.ADAMW
    precision: Precision = Precision.BF16
    gradients: Precision = Precision.BF16
    master_weights: bool = True
    micro_batch: int = 1
    global_batch: int = 1
    sequence_tokens: int = 2048
    recomputation: Recomputation = Recomputation.NONE
    flash_attention: bool = True
    zero: int = 0
    lora_rank: int | None = None
    frozen: Precision = Precision.BF16
    parallelism: Parallelism = Parallelism()
    interleave: int = 1

    def __post_init__(self) -> None:
        for name in ("micro_batch", "global_batch", "sequence_tokens", "interleave"):
            value: int = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} of the training is {value}, expected 1 or more")
        if not 0 <= self.zero <= 3:
            raise ValueError(f"zero of the training is {self.zero}, expected 0, 1, 2 or 3")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank is {self.lora_rank}, expected 1 or more, or None for all")
        if self.interleave > 1 and self.parallelism.pipeline == 1:
            raise ValueError(f"interleave is {self.interleave}, expected 1 without a pipeline")
        at_once = self.micro_batch * self.parallelism.data
        if self.global_batch % at_once:
            raise ValueError(
                f"global_batch is {self.global_batch} sequences, expected a multiple of "
                f"micro_batch * data, {at_once}"
            )

    @property
    def micro_batches(self) -> int:
        """Micro-batches that one data copy works through in an optimizer step."""
        return self.global_batch // (self.micro_batch * self.parallelism.data)

    @property
    def batch_tokens(self) -> int:
        return self.global_batch * self.sequence_tokens

    def __str__(self) -> str:
        parts = [str(self.parallelism), f"micro {self.micro_batch}", f"zero {self.zero}"]
        if self.interleave > 1:
            parts.append(f"{self.interleave} chunks")
        parts.append(f"recompute {self.recomputation}")
        return ", ".join(parts)
