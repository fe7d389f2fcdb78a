"""FLOPs of training: what the model needs, and what the hardware does for it."""

from dataclasses import dataclass

from meted.domain.architecture import Architecture
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.counting import (
    attended_pairs,
    parameters,
    prompt_flops_per_pair,
    sequence_flops,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFlops:
    """FLOPs of one sequence, forward and backward. model: what the mathematics needs, which MFU
    counts. hardware: with everything that is computed twice, which HFU counts."""

    model: float
    hardware: float


def six_nd(parameter_count: float, tokens: float) -> float:
    """FLOPs of training by 6 N D: two forward, four backward per parameter and token, attention
    left out (Kaplan et al. 2020)."""
    return 6.0 * parameter_count * tokens


def narayanan_flops(
    *, layers: int, hidden: int, vocab: int, sequence_tokens: int, sequences: int
) -> float:
    """FLOPs of one step of a GPT with full recomputation, as Narayanan et al. (2021) count them:

    96 B s l h^2 (1 + s / 6h + V / 16 l h). Attention counts all pairs, masked ones too; the head is
    not computed again. Their TFLOP/s per device are this over time.
    """
    wide = 96.0 * sequences * sequence_tokens * layers * hidden**2
    return wide * (1 + sequence_tokens / (6 * hidden) + vocab / (16 * layers * hidden))


def sequence_training_flops(
    architecture: Architecture, algorithm: TrainingAlgorithm
) -> TrainingFlops:
    """FLOPs of training on one sequence, of any architecture.

    Backward is twice forward. LoRA spares the half of it that makes the weights' gradients, except
    for the adapters themselves (Hu et al. 2022). Hardware: full recomputation does the layers'
    forward once more, selective that of the scores only; attention kernels that are not flash
    compute masked pairs too, and flash attention computes scores again in its backward.
    """
    one, tokens = architecture, algorithm.sequence_tokens
    needed = sequence_flops(one, tokens)
    head = 2.0 * parameters(one).head * tokens
    pair = prompt_flops_per_pair(one)
    masked = 0.0 if algorithm.flash_attention else pair * (tokens**2 - attended_pairs(tokens))
    scores = needed - 2.0 * parameters(one).active * tokens
    if algorithm.lora_rank is None:
        passes, adapters = 3.0, 0.0
    else:
        passes = 2.0
        adapters = 6.0 * lora_parameters(one, algorithm.lora_rank) * tokens
        # Attention has no weights: its backward is spared nothing.
        adapters += scores
    model = passes * needed + adapters
    hardware = model + 3.0 * masked
    layers_again = needed - head + masked
    match algorithm.recomputation:
        case Recomputation.FULL:
            hardware += layers_again
        case Recomputation.SELECTIVE:
            hardware += scores + masked
        case Recomputation.NONE:
            hardware += scores / 2 if algorithm.flash_attention else 0.0
    return TrainingFlops(model=model, hardware=hardware)


def lora_parameters(architecture: Architecture, rank: int) -> int:
    """Parameters of adapters of `rank` on every matrix of every layer: rank * (in + out) each."""
    one = architecture
    width, kv_width = one.heads * one.head_dim, one.kv_heads * one.head_dim
    attention = 2 * (one.hidden + width) + 2 * (one.hidden + kv_width)
    matrices = 3 if one.gated else 2
    dense = matrices * (one.hidden + one.ffn)
    if one.experts is None:
        return rank * one.layers * (attention + dense)
    experts = one.experts
    sparse = one.layers - experts.dense_layers
    routed = matrices * (one.hidden + experts.ffn) * (experts.count + experts.shared)
    return rank * (one.layers * attention + experts.dense_layers * dense + sparse * routed)


def trained_parameters(architecture: Architecture, algorithm: TrainingAlgorithm) -> int:
    """Parameters that the optimizer changes."""
    if algorithm.lora_rank is None:
        return parameters(architecture).total
    return lora_parameters(architecture, algorithm.lora_rank)
