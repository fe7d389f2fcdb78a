"""Variants: what is done to a checkpoint's weights, as values, and where it comes from."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.job import Method


class FloatType(StrEnum):
    """Sixteen bits a weight, unquantised."""

    FP16 = "fp16"
    BF16 = "bf16"


class IntType(StrEnum):
    """Bits of a quantised weight; symmetric ones have a scale, the others a zero point as well."""

    INT8 = "int8"
    INT8_SYM = "int8-sym"
    INT4 = "int4"
    INT4_SYM = "int4-sym"


class GgufType(StrEnum):
    """How llama.cpp keeps weights: blocks of 32 with a scale; `_1` adds a minimum to each block."""

    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"


class Calibration(StrEnum):
    """How calibration text guides rounding: AWQ with scale estimation (Lin et al. 2023), or GPTQ
    (Frantar et al. 2022)."""

    AWQ = "awq"
    GPTQ = "gptq"


GROUP_SIZES = (32, 64, 128, -1)
PER_CHANNEL = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFloat:
    """OpenVINO weights in 16 bits, unquantised."""

    type: FloatType


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantise:
    """OpenVINO weights through NNCF.

    group_size: weights that share a scale, -1 for a whole channel; int8 has no other. ratio: the
    share of the layers in 4 bits, those least sensitive first; the rest has 8.
    """

    type: IntType
    group_size: int = PER_CHANNEL
    ratio: float = 1.0
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.group_size not in GROUP_SIZES:
            _refuse("group_size", self.group_size, f"one of {', '.join(map(str, GROUP_SIZES))}")
        if not 0 < self.ratio <= 1:
            _refuse("ratio", self.ratio, "more than 0 and at most 1")
        plain = self.group_size == PER_CHANNEL and self.ratio == 1 and self.calibration is None
        if not self.in_four_bits and not plain:
            raise ValueError(f"{self.type} takes no group size, ratio or calibration; leave them")

    @property
    def in_four_bits(self) -> bool:
        return self.type in (IntType.INT4, IntType.INT4_SYM)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantiseGguf:
    """A GGUF file for llama.cpp; vectors stay in float32, the output matrix in q8_0 or better."""

    type: GgufType


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A short fine-tune on the calibration text after weights were taken away. steps 0: none."""

    steps: int = 40
    method: Method = Method.LORA
    batch_tokens: int = 1024
    learning_rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0:
            _refuse("repair.steps", self.steps, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneLayers:
    """Take out this share of the layers: those that turn the hidden state least (ShortGPT, Men et
    al. 2024)."""

    share: float
    repair: Repair = Repair()

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneHeads:
    """Take out as many groups of heads from each layer: a head of keys and values with the query
    heads that read it. The least loud outputs go."""

    groups: int = 1
    repair: Repair = Repair()

    def __post_init__(self) -> None:
        if self.groups < 1:
            _refuse("groups", self.groups, "1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneNeurons:
    """Take out this share of each layer's MLP neurons: those of the least |activation| times norm
    of outgoing weights on the calibration text (Wanda's criterion, Sun et al. 2023, by neuron)."""

    share: float
    repair: Repair = Repair()

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distil:
    """A student with this share of the layers left out, begun from the parent's, trained on the
    parent's distributions: `weight` of KL(parent, student) at `temperature`, the rest on the text
    itself (Hinton et al. 2015)."""

    share: float
    steps: int = 60
    batch_tokens: int = 1024
    learning_rate: float = 2e-4
    temperature: float = 1.0
    weight: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        _check_share(self.share)
        if self.steps < 1:
            _refuse("steps", self.steps, "1 or more")
        if not self.temperature > 0:
            _refuse("temperature", self.temperature, "more than 0")
        if not 0 <= self.weight <= 1:
            _refuse("weight", self.weight, "0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTune:
    """A training job: adapters merged into the weights (lora), or all weights moved (full)."""

    job: str
    method: Method
    optimizer: str
    lora_rank: int | None = None
    data: str = ""


Transformation = (
    ExportFloat
    | Quantise
    | QuantiseGguf
    | PruneLayers
    | PruneHeads
    | PruneNeurons
    | Distil
    | FineTune
)
Reshaping = PruneLayers | PruneHeads | PruneNeurons | Distil
"""What makes another network, which is trained on, and served in the usual 8 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageStep:
    """One transformation of the checkpoint `parent`."""

    parent: str
    transformation: Transformation


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        _refuse("share", share, "more than 0 and less than 1")


def _refuse(name: str, value: object, expected: str) -> None:
    raise ValueError(f"{name} is {value!r}, expected {expected}")
