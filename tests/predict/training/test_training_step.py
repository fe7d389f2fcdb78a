"""Step time of training: parts, bubbles, and devices that help until they have to talk."""

from dataclasses import replace
from itertools import pairwise

import pytest

from meted.domain.algorithm import Parallelism
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.device_kind import Precision
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.training.step import (
    EfficiencyFactors,
    TrainingStep,
    ideal_training_step,
    peak_flops,
    training_step,
)

A100 = lookup_device_kind("a100-80gb")
ONE = lookup_architecture("megatron-7.5b")


def step(algorithm: TrainingAlgorithm, model: str = "megatron-7.5b") -> TrainingStep:
    return training_step(ideal_training_step(lookup_architecture(model), algorithm, A100))


def spread_out(data: int) -> TrainingAlgorithm:
    return TrainingAlgorithm(
        global_batch=1024, parallelism=Parallelism(tensor=8, data=data), zero=1
    )


def test_time_falls_with_devices_until_they_only_talk() -> None:
    times = [step(spread_out(2**power)) for power in range(11)]
    seconds = [one.seconds for one in times]
    assert all(after < before for before, after in pairwise(seconds))
    assert seconds[0] / seconds[3] == pytest.approx(8, rel=0.05)
    # At one sequence a copy the gradients' way is what is left.
    assert seconds[9] / seconds[10] < 1.5
    assert times[10].reduce > times[10].compute
    assert times[10].mfu < times[0].mfu / 2


def test_parts_sum_to_the_step() -> None:
    algorithm = TrainingAlgorithm(
        global_batch=64, parallelism=Parallelism(tensor=4, pipeline=4, data=8), interleave=3
    )
    told = step(algorithm)
    assert told.seconds == sum(told.parts.values())
    assert min(told.parts.values()) >= 0


@pytest.mark.parametrize(("interleave", "micro_batches"), [(1, 8), (3, 8), (1, 32)])
def test_bubble_is_p_minus_1_over_m_v_of_the_work(interleave: int, micro_batches: int) -> None:
    told = step(
        TrainingAlgorithm(
            global_batch=micro_batches,
            parallelism=Parallelism(tensor=8, pipeline=4),
            interleave=interleave,
        )
    )
    work = told.compute + told.memory + told.tensor + told.pipeline
    assert told.bubble / work == pytest.approx(3 / (micro_batches * interleave))


def test_full_recomputation_takes_a_third_more_arithmetic() -> None:
    plain = TrainingAlgorithm(global_batch=8)
    full = replace(plain, recomputation=Recomputation.FULL)
    assert step(full).compute / step(plain).compute == pytest.approx(4 / 3, abs=0.02)
    assert step(full).mfu < step(plain).mfu


def test_mfu_at_ideal_speed_is_below_one_and_hfu_no_less() -> None:
    ideal = ideal_training_step(ONE, TrainingAlgorithm(global_batch=8), A100)
    told = training_step(ideal, EfficiencyFactors(compute=1, ridge=0.1, memory=1, link=1, whole=1))
    assert told.mfu < 1
    assert told.hfu >= told.mfu


def test_zero_3_talks_more_and_tensor_parallelism_talks_in_every_layer() -> None:
    lay = Parallelism(data=64)
    first = TrainingAlgorithm(global_batch=1024, micro_batch=1, zero=1, parallelism=lay)
    third = replace(first, zero=3)
    assert (
        ideal_training_step(ONE, third, A100).reduce
        > 1.5 * ideal_training_step(ONE, first, A100).reduce
    )
    assert step(first).tensor == 0
    assert step(replace(first, parallelism=Parallelism(tensor=8, data=8))).tensor > 0


def test_experts_are_sent_for_where_they_are_spread() -> None:
    near = TrainingAlgorithm(global_batch=64, parallelism=Parallelism(data=8))
    spread = replace(near, parallelism=Parallelism(data=8, expert=8))
    assert step(near, "mixtral-8x7b").experts == 0
    assert step(spread, "mixtral-8x7b").experts > 0


def test_bf16_is_fp16_on_a_kind_without_it_and_other_lacks_are_named() -> None:
    v100 = lookup_device_kind("v100-32gb")
    assert peak_flops(v100, Precision.BF16) == v100.peak_flops[Precision.FP16]
    with pytest.raises(ValueError, match="no peak in fp8"):
        peak_flops(v100, Precision.FP8)
