"""Step time of training: ideal parts by counting, put together with efficiency factors."""

from dataclasses import dataclass, replace

from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.communication import NOTHING, Wire, all_reduce, all_to_all, point_to_point
from meted.predict.counting import parameters
from meted.predict.training.flops import sequence_training_flops, trained_parameters
from meted.predict.training.memory import (
    device_parameters,
    expert_copies,
    layer_activation_bytes,
    stage_layers,
    state_bytes,
)

ACTIVATION_PASSES = 3.0
"""Times that an activation crosses the memory bus: written forward, read backward, and its
gradient written; fused kernels spare some, unfused ones add some, which `memory` takes up."""

OVERLAP = 0.5
"""Part of a pass behind which gradients and gathered weights travel: the buckets of the last layers
are ready early, those of the first only at its end (Li et al. 2020, PyTorch DDP)."""

RIDGE = 153.0
"""FLOP per byte of an A100 80 GB in bf16, at which `compute` is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyFactors:
    """compute: share of peak FLOP/s in matrices on a device with the ridge of an A100. ridge: how
    the share falls with a higher ridge, as a power: arithmetic grew faster than what feeds it.
    memory: share of bandwidth for activations and optimizer. link: share of the links' bandwidth.
    whole: share of a whole run's device-hours that are productive steps, known failures aside."""

    compute: float = 0.6
    ridge: float = 0.4
    memory: float = 0.7
    link: float = 0.6
    whole: float = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class IdealTrainingStep:
    """Microseconds at ideal speed. Of one micro-batch in one stage: compute, memory, tensor (its
    all-reduces), stage_link (pipeline messages), experts (all-to-all). Of the whole step: reduce
    (gradients and ZeRO's gathers, of which `hidden` of backward may cover some), optimizer.
    model_flops: of the whole step on all devices. bubbles: micro-batches' worth of idle stage."""

    compute: float
    memory: float
    tensor: float
    stage_link: float
    experts: float
    reduce: float
    reduce_cover: float
    optimizer: float
    micro_batches: int
    bubbles: float
    model_flops: float
    hardware_flops: float
    devices: int
    peak_flops: float
    ridge: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """Seconds of an optimizer step by what they go into; they sum to `seconds`. mfu, hfu: model
    and hardware FLOPs over what the devices could do at peak."""

    compute: float
    memory: float
    tensor: float
    experts: float
    pipeline: float
    bubble: float
    reduce: float
    optimizer: float
    mfu: float
    hfu: float

    @property
    def parts(self) -> dict[str, float]:
        names = (
            "compute",
            "memory",
            "tensor",
            "experts",
            "pipeline",
            "bubble",
            "reduce",
            "optimizer",
        )
        return {name: getattr(self, name) for name in names}

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())


def peak_flops(kind: DeviceKind, precision: Precision) -> float:
    """Peak of the arithmetic. Raises ValueError, naming the kind, if it has none of that sort."""
    for one in (precision, Precision.FP16 if precision is Precision.BF16 else precision):
        if one in kind.peak_flops:
            return kind.peak_flops[one]
    known = ", ".join(str(one) for one in kind.peak_flops)
    raise ValueError(f"{kind.name} has no peak in {precision}, expected one of {known}")


def ideal_training_step(
    architecture: Architecture, algorithm: TrainingAlgorithm, kind: DeviceKind
) -> IdealTrainingStep:
    """Ideal parts of an optimizer step.

    Tensor parallelism: four all-reduces of a micro-batch's activations per layer, two more if it is
    recomputed (Shoeybi et al. 2019). Pipeline: bubble (p - 1) / v micro-batches, and 2 v messages a
    micro-batch and stage (Narayanan et al. 2021). Data: one all-reduce of gradients; ZeRO 3 gathers
    weights twice for each micro-batch besides and reduces gradients for each (Rajbhandari et al.
    2020: 1.5 times the volume). Experts: four all-to-alls of their tokens per layer.
    """
    one, lay = architecture, algorithm.parallelism
    peak = peak_flops(kind, algorithm.precision)
    flops = sequence_training_flops(one, algorithm)
    layers = stage_layers(one, algorithm)
    size = algorithm.precision.bits / 8
    tokens = algorithm.micro_batch * algorithm.sequence_tokens
    again = algorithm.recomputation is Recomputation.FULL
    uneven = layers * lay.pipeline / one.layers
    stage_flops = algorithm.micro_batch * flops.hardware * uneven / lay.pipeline / lay.tensor
    held = device_parameters(one, algorithm, last=False)
    kept = layer_activation_bytes(one, algorithm) * tokens * layers / lay.tensor
    weight_reads = (3 + again) * (held[0] + held[1]) * size
    traffic = (ACTIVATION_PASSES + again) * kept + weight_reads
    payload = tokens * one.hidden * size
    tensor = all_reduce(kind, lay.tensor) if lay.tensor > 1 else NOTHING
    stage_wire = NOTHING
    if lay.pipeline > 1:
        inside = lay.tensor * lay.pipeline <= kind.node_devices
        stage_wire = point_to_point(kind, inside_node=inside)
    experts = 0.0
    if one.experts is not None and lay.expert > 1:
        sparse = (one.layers - one.experts.dense_layers) / one.layers * layers
        routed = payload * one.experts.active / lay.tensor
        experts = (4 + 2 * again) * sparse * all_to_all(kind, lay.expert).micros(routed)
    compute = stage_flops / peak * 1e6
    count = algorithm.micro_batches
    # Gradients alone hide behind one backward pass, gathers of ZeRO behind forward passes too.
    covering = compute * (2 / 3 if algorithm.zero == 0 else 1.0)
    if algorithm.zero == 3:
        covering *= count
    return IdealTrainingStep(
        compute=compute,
        memory=traffic / kind.bandwidth * 1e6,
        tensor=(4 + 2 * again) * layers * tensor.micros(payload),
        stage_link=2 * algorithm.interleave * stage_wire.micros(payload / lay.tensor),
        experts=experts,
        reduce=_reduce_micros(algorithm, kind, held, one),
        reduce_cover=OVERLAP * covering,
        optimizer=_optimizer_bytes(one, algorithm, held) / kind.bandwidth * 1e6,
        micro_batches=count,
        bubbles=(lay.pipeline - 1) / algorithm.interleave,
        model_flops=flops.model * algorithm.global_batch,
        hardware_flops=flops.hardware * algorithm.global_batch,
        devices=lay.devices,
        peak_flops=peak,
        ridge=peak / kind.bandwidth,
    )


def training_step(
    ideal: IdealTrainingStep, factors: EfficiencyFactors = EfficiencyFactors()
) -> TrainingStep:
    """The step that efficiency factors make of its ideal parts."""
    share = factors.compute * max(1.0, ideal.ridge / RIDGE) ** -factors.ridge
    many = ideal.micro_batches / 1e6
    compute = ideal.compute / share
    memory = ideal.memory / factors.memory
    linked = (ideal.tensor + ideal.stage_link + ideal.experts) / factors.link
    cover = ideal.reduce_cover / share
    reduce = max(0.0, ideal.reduce / factors.link - cover)
    bubble = ideal.bubbles * (compute + memory + linked)
    optimizer = ideal.optimizer / factors.memory
    seconds = (
        ideal.micro_batches * (compute + memory + linked) + bubble + reduce + optimizer
    ) / 1e6
    able = seconds * ideal.devices * ideal.peak_flops
    return TrainingStep(
        compute=many * compute,
        memory=many * memory,
        tensor=many * ideal.tensor / factors.link,
        experts=many * ideal.experts / factors.link,
        pipeline=many * ideal.stage_link / factors.link,
        bubble=bubble / 1e6,
        reduce=reduce / 1e6,
        optimizer=optimizer / 1e6,
        mfu=ideal.model_flops / able,
        hfu=ideal.hardware_flops / able,
    )


def _data_wire(kind: DeviceKind, tensor: int, copies: int) -> Wire:
    """All-reduce among copies whose tensor groups fill nodes first."""
    if copies == 1:
        return NOTHING
    neighbours = max(1, kind.node_devices // tensor)
    return all_reduce(replace(kind, node_devices=neighbours), copies)


def _reduce_micros(
    algorithm: TrainingAlgorithm, kind: DeviceKind, held: tuple[float, float], one: Architecture
) -> float:
    lay = algorithm.parallelism
    trained = _trained_share(one, algorithm)
    total = 0.0
    for count, copies in ((held[0], expert_copies(algorithm)), (held[1], lay.data)):
        wire = _data_wire(kind, lay.tensor, copies)
        gradients = wire.micros(count * trained * algorithm.gradients.bits / 8)
        if algorithm.zero < 3:
            total += gradients
            continue
        kept = algorithm.precision if algorithm.lora_rank is None else algorithm.frozen
        # An all-gather is half an all-reduce; forward and backward gather once each.
        gathers = wire.micros(count * kept.bits / 8)
        total += algorithm.micro_batches * (gathers + gradients / 2)
    return total


def _optimizer_bytes(
    one: Architecture, algorithm: TrainingAlgorithm, held: tuple[float, float]
) -> float:
    """Bytes read and written by the optimizer: its state twice, gradients and weights once."""
    lay = algorithm.parallelism
    trained = _trained_share(one, algorithm)
    total = 0.0
    for count, copies in ((held[0], expert_copies(algorithm)), (held[1], lay.data)):
        mine = count * trained / (copies if algorithm.zero >= 1 else 1)
        state = state_bytes(
            trained=mine,
            frozen=0.0,
            width=one.hidden,
            algorithm=replace(algorithm, zero=0),
            copies=1,
        )
        total += 2 * state.optimizer + state.gradients + state.weights
    return total


def _trained_share(one: Architecture, algorithm: TrainingAlgorithm) -> float:
    return trained_parameters(one, algorithm) / parameters(one).total
