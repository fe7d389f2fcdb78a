"""Memory of a training device: weights, gradients, optimizer state and activations."""

import math
from dataclasses import dataclass, fields

from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.training_algorithm import Optimizer, Recomputation, TrainingAlgorithm
from meted.predict.counting import parameters
from meted.predict.training.flops import trained_parameters

MEMORY_SHARE = 0.9
"""Part of a device's memory that a plan fills; the rest is left to the driver, communication
buffers and fragments (Rajbhandari et al. 2020, section 6.3, see runs fail with over 30 % free
before they defragment; PyTorch's caching allocator needs far less)."""


class TrainingDoesNotFitError(ValueError):
    """A device's memory is too small; the sentence names the largest part. part: its name.
    needed_bytes, room_bytes: of one device."""

    def __init__(self, sentence: str, *, part: str, needed_bytes: float, room_bytes: float) -> None:
        super().__init__(sentence)
        self.part = part
        self.needed_bytes = needed_bytes
        self.room_bytes = room_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes on the fullest device. gathered: a layer's weights that ZeRO 3 holds for a moment.
    logits: scores of the vocabulary, before the loss."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    gathered: float

    @property
    def parts(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def largest_part(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes of weights, gradients and optimizer state on one device."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


def state_bytes(
    *, trained: float, frozen: float, width: int, algorithm: TrainingAlgorithm, copies: int
) -> StateBytes:
    """Model state of one of `copies` data copies that holds so many trained and frozen parameters.

    With 16-bit Adam 2 + 2 + 12 bytes a parameter; stage 1 divides the optimizer state, master
    weights included, by the copies, stage 2 the gradients too, stage 3 the weights too
    (Rajbhandari et al. 2020, figure 1).
    """
    kept = algorithm.precision.bits / 8
    master = 4.0 if algorithm.master_weights and kept < 4 else 0.0
    state = algorithm.optimizer.state_bytes(width) + master
    by = [copies if algorithm.zero >= stage else 1 for stage in (1, 2, 3)]
    return StateBytes(
        optimizer=trained * state / by[0],
        gradients=trained * algorithm.gradients.bits / 8 / by[1],
        weights=(trained * kept + frozen * algorithm.frozen.bits / 8) / by[2],
    )


def layer_activation_bytes(architecture: Architecture, algorithm: TrainingAlgorithm) -> float:
    """Bytes per token that one layer keeps for its backward pass, nothing recomputed, over all
    tensor-parallel devices together.

    34 h + 5 a s for a GPT in 16 bits (Korthikanti et al. 2022, equation 1), here from the widths:
    inputs of both norms, of the projections and of the feed-forward, queries, keys, values, masks
    of dropout; 5 a s are scores, which flash attention does not keep. A gated feed-forward keeps
    three inner vectors; of experts those that a token visits.
    """
    one = architecture
    size = algorithm.precision.bits / 8
    width, kv_width = one.heads * one.head_dim, one.kv_heads * one.head_dim
    attention = size * (one.hidden + 2 * width + 2 * kv_width) + one.hidden
    scores = 0.0 if algorithm.flash_attention else (2 * size + 1) * one.heads
    inner, matrices = _mean_inner_width(one), 3 if one.gated else 2
    feed_forward = size * (one.hidden + matrices * inner) + one.hidden
    return 2 * size * one.hidden + attention + feed_forward + scores * algorithm.sequence_tokens


def kept_activation_bytes(architecture: Architecture, algorithm: TrainingAlgorithm) -> float:
    """Bytes per token that one layer keeps under its recomputation: full keeps its input only,
    selective all but the scores."""
    if algorithm.recomputation is Recomputation.FULL:
        return architecture.hidden * algorithm.precision.bits / 8
    kept = layer_activation_bytes(architecture, algorithm)
    if algorithm.recomputation is Recomputation.SELECTIVE and not algorithm.flash_attention:
        per_pair = 2 * algorithm.precision.bits / 8 + 1
        kept -= per_pair * architecture.heads * algorithm.sequence_tokens
    return kept


def training_memory(architecture: Architecture, algorithm: TrainingAlgorithm) -> TrainingMemory:
    """Memory of the fullest device: the first stage of a pipeline, which holds most micro-batches
    in flight, or the last, which holds the logits.

    Activations are shared by tensor parallelism along the sequence where they are not along the
    width (Korthikanti et al. 2022). One-forward-one-backward keeps as many micro-batches as the
    pipeline has stages, interleaving 1 + (p - 1) / (p v) times that.
    """
    first = _stage_memory(architecture, algorithm, last=False)
    last = _stage_memory(architecture, algorithm, last=True)
    return max(first, last, key=lambda memory: memory.total)


def check_fit(
    architecture: Architecture, algorithm: TrainingAlgorithm, kind: DeviceKind
) -> TrainingMemory:
    """The memory, if it fits. Raises TrainingDoesNotFitError, naming the largest part."""
    memory = training_memory(architecture, algorithm)
    room = MEMORY_SHARE * kind.memory_bytes
    if memory.total > room:
        part = memory.largest_part
        raise TrainingDoesNotFitError(
            f"training {architecture.name} needs {memory.total / 1e9:.1f} GB on each {kind.name}, "
            f"which has room for {room / 1e9:.1f}; the largest part are its "
            f"{part}, {memory.parts[part] / 1e9:.1f} GB; {_REMEDY[part]}",
            part=part,
            needed_bytes=memory.total,
            room_bytes=room,
        )
    return memory


_REMEDY = {
    "weights": "share them among more devices, or keep frozen ones in fewer bits (QLoRA)",
    "gathered": "share them by more tensor parallelism",
    "gradients": "share them among more devices (ZeRO 2), or train adapters (LoRA)",
    "optimizer": "share it among more devices, take an 8-bit optimizer, or train adapters (LoRA)",
    "activations": "recompute them, or take a smaller micro-batch or more tensor parallelism",
    "logits": "take a smaller micro-batch or more tensor parallelism",
}


def stage_layers(architecture: Architecture, algorithm: TrainingAlgorithm) -> int:
    """Layers of the fullest pipeline stage."""
    return math.ceil(architecture.layers / algorithm.parallelism.pipeline)


def device_parameters(
    architecture: Architecture, algorithm: TrainingAlgorithm, *, last: bool
) -> tuple[float, float]:
    """Parameters of a device in the first or last pipeline stage before ZeRO shares them: those of
    routed experts, and all others."""
    one, lay = architecture, algorithm.parallelism
    counted = parameters(one)
    routed = 0
    if one.experts is not None:
        sparse = one.layers - one.experts.dense_layers
        routed = sparse * one.experts.count * counted.expert
    share = stage_layers(one, algorithm) / one.layers
    if lay.pipeline == 1:
        outside = counted.total - counted.layers
    else:
        outside = counted.head if last else counted.embedding
    others = (counted.layers - routed) * share + outside
    return routed * share / max(lay.tensor, lay.expert), others / lay.tensor


def _stage_memory(one: Architecture, algorithm: TrainingAlgorithm, *, last: bool) -> TrainingMemory:
    lay = algorithm.parallelism
    experts, others = device_parameters(one, algorithm, last=last)
    states = [
        _states(one, algorithm, count, copies)
        for count, copies in ((experts, expert_copies(algorithm)), (others, lay.data))
        if count
    ]
    layers = stage_layers(one, algorithm)
    tokens = algorithm.micro_batch * algorithm.sequence_tokens
    in_flight = 1.0 if last else float(min(lay.pipeline, algorithm.micro_batches))
    if algorithm.interleave > 1:
        in_flight *= 1 + (lay.pipeline - 1) / (lay.pipeline * algorithm.interleave)
    kept = kept_activation_bytes(one, algorithm)
    activations = tokens * layers * kept * in_flight
    # What a layer recomputes must be somewhere while its backward runs.
    activations += tokens * (layer_activation_bytes(one, algorithm) - kept)
    has_head = last or lay.pipeline == 1
    logits = (4.0 + algorithm.precision.bits / 8) * tokens * one.vocab if has_head else 0.0
    gathered = 0.0
    if algorithm.zero == 3:
        gathered = 2 * (experts + others) / layers * algorithm.precision.bits / 8
    return TrainingMemory(
        weights=sum(state.weights for state in states),
        gradients=sum(state.gradients for state in states),
        optimizer=sum(state.optimizer for state in states),
        activations=activations / lay.tensor,
        logits=logits / lay.tensor,
        gathered=gathered,
    )


def expert_copies(algorithm: TrainingAlgorithm) -> int:
    """Data copies of one routed expert."""
    lay = algorithm.parallelism
    return max(1, lay.tensor * lay.data // max(lay.tensor, lay.expert))


def _states(
    one: Architecture, algorithm: TrainingAlgorithm, count: float, copies: int
) -> StateBytes:
    if algorithm.lora_rank is None:
        trained = count
    else:
        trained = count * trained_parameters(one, algorithm) / parameters(one).total
    frozen = 0.0 if algorithm.lora_rank is None else count
    return state_bytes(
        trained=trained, frozen=frozen, width=one.hidden, algorithm=algorithm, copies=copies
    )


def checkpoint_bytes(architecture: Architecture, algorithm: TrainingAlgorithm) -> float:
    """Bytes of a checkpoint from which training goes on: trained weights as the optimizer keeps
    them, and its state."""
    trained = trained_parameters(architecture, algorithm)
    master = 4.0 if algorithm.master_weights else algorithm.precision.bits / 8
    if algorithm.precision is Precision.FP32:
        master = 4.0
    optimizer: Optimizer = algorithm.optimizer
    return trained * (master + optimizer.state_bytes(architecture.hidden))


def _mean_inner_width(one: Architecture) -> float:
    """Inner width of the feed-forward that one token sees, mean over layers."""
    if one.experts is None:
        return one.ffn
    experts = one.experts
    sparse = (one.layers - experts.dense_layers) / one.layers
    return (1 - sparse) * one.ffn + sparse * (experts.active + experts.shared) * experts.ffn
