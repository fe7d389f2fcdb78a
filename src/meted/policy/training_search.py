"""Every layout of a training run on so many devices that fits their memory, with its step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from meted.domain.algorithm import Parallelism
from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.cores import CORE_PREFIX
from meted.predict.counting import parameters
from meted.predict.training.efficiency import Efficiency
from meted.predict.training.memory import (
    MEMORY_SHARE,
    TrainingDoesNotFitError,
    TrainingMemory,
    check_fit,
    training_memory,
)
from meted.predict.training.step import (
    IdealTrainingStep,
    TrainingStep,
    ideal_training_step,
    training_step,
)

MICRO_BATCHES = (1, 2, 4, 8, 16)
USUAL_SEQUENCE = 2048
ADAPTER_BATCH = 32
"""Sequences of a step where only adapters are trained (Dettmers et al. 2023 take 16 to 64)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A way to train on a choice of devices that fits their memory. kind: of one device as the
    layout sees it; a group of processor cores is one device."""

    choice: TrainingChoice
    kind: DeviceKind
    algorithm: TrainingAlgorithm
    memory: TrainingMemory
    ideal: IdealTrainingStep
    step: TrainingStep

    @property
    def memory_room(self) -> float:
        return MEMORY_SHARE * self.kind.memory_bytes

    @property
    def seconds_per_token(self) -> float:
        return self.step.seconds / self.algorithm.batch_tokens


def layouts(wish: TrainingWish, choice: TrainingChoice, known: Efficiency) -> list[Layout]:
    """All layouts that fit, fastest first; equals in a fixed order.

    Raises TrainingDoesNotFitError of the layout that comes nearest if none fits.
    """
    kind, devices = as_seen(choice)
    found: list[Layout] = []
    nearest: tuple[float, TrainingAlgorithm] | None = None
    room = MEMORY_SHARE * kind.memory_bytes
    for algorithm in algorithms(wish, kind, devices):
        memory = training_memory(wish.architecture, algorithm)
        if memory.total > room:
            if nearest is None or memory.total < nearest[0]:
                nearest = memory.total, algorithm
            continue
        ideal = ideal_training_step(wish.architecture, algorithm, kind)
        step = training_step(ideal, known.factors)
        found.append(
            Layout(
                choice=choice,
                kind=kind,
                algorithm=algorithm,
                memory=memory,
                ideal=ideal,
                step=step,
            )
        )
    if not found:
        assert nearest is not None
        check_fit(wish.architecture, nearest[1], kind)
        raise TrainingDoesNotFitError(
            f"{wish.architecture.name} does not fit {choice}",
            part="weights",
            needed_bytes=nearest[0],
            room_bytes=room,
        )
    # Of equally fast ones the plainest: less sharing, then less memory.
    return sorted(
        found,
        key=lambda one: (
            one.step.seconds,
            one.algorithm.zero,
            one.memory.total,
            str(one.algorithm),
        ),
    )


def as_seen(choice: TrainingChoice) -> tuple[DeviceKind, int]:
    """The kind and number of devices as layouts see them: the cores of a machine share their memory
    and work on one copy by threads, so that they are one device."""
    kind = choice.kind
    if not kind.name.startswith(CORE_PREFIX) or kind.node_devices == 1:
        return kind, choice.devices
    cores = max(n for n in range(1, kind.node_devices + 1) if choice.devices % n == 0)
    grouped = replace(
        kind,
        peak_flops={name: peak * cores for name, peak in kind.peak_flops.items()},
        memory_bytes=kind.memory_bytes * cores,
        bandwidth=kind.bandwidth * cores,
        node_devices=1,
        watts_busy=kind.watts_busy * cores,
        watts_idle=kind.watts_idle * cores,
        network=replace(kind.network, bytes_per_second=kind.network.bytes_per_second * cores),
    )
    return grouped, choice.devices // cores


def sequence_tokens(wish: TrainingWish) -> int:
    return wish.sequence_tokens or min(USUAL_SEQUENCE, wish.architecture.positions)


def usual_batch(wish: TrainingWish) -> int:
    """Sequences of a step: for adapters 32; else as many tokens as GPT-3's series had for that
    many parameters, 0.5M for 0.76B to 3.2M for 175B (Brown et al. 2020, table 2.1), as a power of
    two, and no more than a hundredth of all tokens, so that there are steps to learn by."""
    length = sequence_tokens(wish)
    if wish.lora_rank is not None:
        wanted = float(ADAPTER_BATCH)
    else:
        count = parameters(wish.architecture).total
        wanted = 0.5e6 * (count / 0.76e9) ** 0.34 / length
    wanted = max(1.0, min(wanted, wish.tokens / 100 / length))
    # The nearest multiple of a power of two that two bits say: 1536 stays 1536.
    power = 2 ** max(0, int(wanted).bit_length() - 2)
    return max(1, round(wanted / power)) * power


def algorithms(wish: TrainingWish, kind: DeviceKind, devices: int) -> Iterator[TrainingAlgorithm]:
    """Ways to lay the training over at most so many devices: tensor parallelism inside a node,
    pipeline stages of whole layers, data copies with what is left, experts among the copies."""
    one, batch = wish.architecture, wish.global_batch or usual_batch(wish)
    base = TrainingAlgorithm(
        optimizer=wish.optimizer,
        precision=wish.precision,
        gradients=wish.precision,
        sequence_tokens=sequence_tokens(wish),
        flash_attention=wish.flash_attention,
        lora_rank=wish.lora_rank,
        frozen=wish.frozen,
    )
    for tensor in _tensor_sizes(one, kind, devices):
        for pipeline in _pipeline_sizes(one, devices // tensor):
            at_most = devices // (tensor * pipeline)
            for data, micro in _copies(batch, at_most):
                for expert in _expert_sizes(one, tensor, data):
                    lay = Parallelism(tensor=tensor, pipeline=pipeline, data=data, expert=expert)
                    yield from _variants(
                        replace(base, parallelism=lay, micro_batch=micro, global_batch=batch), one
                    )


def _variants(way: TrainingAlgorithm, one: Architecture) -> Iterator[TrainingAlgorithm]:
    """ZeRO stages, recomputation and chunks of one layout. Stages 2 and 3 go with no pipeline,
    whose micro-batches would send gradients and weights again and again."""
    lay = way.parallelism
    stages = (0,) if lay.data == 1 else (0, 1) if lay.pipeline > 1 else (0, 1, 2, 3)
    each = -(-one.layers // lay.pipeline)
    chunks = (1,)
    if lay.pipeline > 1 and way.micro_batches % lay.pipeline == 0:
        chunks = tuple(n for n in (1, 2, 3, 5, 8) if n <= each and each % n == 0)
    again = [Recomputation.NONE, Recomputation.FULL]
    if not way.flash_attention:
        again.insert(1, Recomputation.SELECTIVE)
    for zero in stages:
        for recomputation in again:
            for interleave in chunks:
                yield replace(way, zero=zero, recomputation=recomputation, interleave=interleave)


def _tensor_sizes(one: Architecture, kind: DeviceKind, devices: int) -> list[int]:
    most = min(kind.node_devices, devices)
    return [n for n in (1, 2, 4, 8, 16) if n <= most and one.heads % n == 0]


def _pipeline_sizes(one: Architecture, most: int) -> list[int]:
    """Numbers of stages that leave no stage more than a tenth longer than the mean."""
    return [
        n
        for n in range(1, min(one.layers, most) + 1)
        if -(-one.layers // n) * n <= 1.1 * one.layers
    ]


def _copies(batch: int, most: int) -> Iterator[tuple[int, int]]:
    """Numbers of data copies and micro-batches: for each micro-batch the most copies into which
    the batch divides."""
    for micro in MICRO_BATCHES:
        if batch % micro:
            continue
        groups = batch // micro
        yield max(n for n in range(1, min(most, groups) + 1) if groups % n == 0), micro


def _expert_sizes(one: Architecture, tensor: int, data: int) -> list[int]:
    if one.experts is None:
        return [1]
    return [
        n
        for n in (1, 2, 4, 8, 16, 32, 64)
        if one.experts.count % n == 0 and (tensor * data) % n == 0
    ]
