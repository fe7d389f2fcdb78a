"""Memory of training: the anchors of the ZeRO and recomputation papers, and the must-fit check."""

from dataclasses import replace

import pytest

from meted.domain.algorithm import Parallelism
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.training_algorithm import Optimizer, Recomputation, TrainingAlgorithm
from meted.predict.training.memory import (
    TrainingDoesNotFitError,
    check_fit,
    checkpoint_bytes,
    kept_activation_bytes,
    layer_activation_bytes,
    state_bytes,
    training_memory,
)

GPT_3 = lookup_architecture("gpt3-175b")
A100 = lookup_device_kind("a100-80gb")


@pytest.mark.parametrize(("zero", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_of_7_5b_on_64_copies_are_those_of_the_zero_paper(
    zero: int, gigabytes: float
) -> None:
    told = state_bytes(
        trained=7.5e9, frozen=0, width=4096, algorithm=TrainingAlgorithm(zero=zero), copies=64
    )
    assert told.total / 1e9 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"),
    [
        (Optimizer.SGD, 4),
        (Optimizer.MOMENTUM, 8),
        (Optimizer.ADAM, 12),
        (Optimizer.ADAMW, 12),
        (Optimizer.ADAM8BIT, 6),
        (Optimizer.ADAFACTOR, 4),
    ],
)
def test_optimizers_keep_master_weights_and_their_moments(
    optimizer: Optimizer, per_parameter: float
) -> None:
    told = state_bytes(
        trained=1e9,
        frozen=0,
        width=4096,
        algorithm=TrainingAlgorithm(optimizer=optimizer),
        copies=1,
    )
    assert told.optimizer / 1e9 == pytest.approx(per_parameter, rel=0.002)


def test_a_layer_of_gpt_3_keeps_34_h_and_5_a_s_bytes_a_token() -> None:
    h, a, s = 12288, 96, 2048
    plain = TrainingAlgorithm(flash_attention=False)
    assert layer_activation_bytes(GPT_3, plain) == 34 * h + 5 * a * s
    assert layer_activation_bytes(GPT_3, TrainingAlgorithm()) == 34 * h
    selective = replace(plain, recomputation=Recomputation.SELECTIVE)
    assert kept_activation_bytes(GPT_3, selective) == 34 * h
    full = replace(plain, recomputation=Recomputation.FULL)
    assert kept_activation_bytes(GPT_3, full) == 2 * h


def test_selective_recomputation_saves_70_percent_of_gpt_3s_activations() -> None:
    plain = TrainingAlgorithm(flash_attention=False)
    selective = replace(plain, recomputation=Recomputation.SELECTIVE)
    kept = kept_activation_bytes(GPT_3, selective) / kept_activation_bytes(GPT_3, plain)
    assert 1 - kept == pytest.approx(0.70, abs=0.01)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("recomputation", list(Recomputation))
def test_parts_sum_to_the_total_and_none_is_negative(
    zero: int, recomputation: Recomputation
) -> None:
    algorithm = TrainingAlgorithm(
        zero=zero,
        recomputation=recomputation,
        global_batch=64,
        parallelism=Parallelism(tensor=8, pipeline=1, data=8),
    )
    memory = training_memory(lookup_architecture("llama-3-70b"), algorithm)
    assert memory.total == sum(memory.parts.values())
    assert min(memory.parts.values()) >= 0
    assert memory.parts[memory.largest_part] == max(memory.parts.values())


def test_model_state_of_all_devices_is_the_models_whatever_shares_it() -> None:
    one = lookup_architecture("megatron-7.5b")
    whole = training_memory(one, TrainingAlgorithm(global_batch=64))
    shared = training_memory(
        one, TrainingAlgorithm(global_batch=64, zero=3, parallelism=Parallelism(tensor=8, data=8))
    )
    for part in ("weights", "gradients", "optimizer"):
        assert 64 * shared.parts[part] == pytest.approx(whole.parts[part])


def test_adapters_need_state_for_themselves_only() -> None:
    one = lookup_architecture("llama-3.1-8b")
    full = training_memory(one, TrainingAlgorithm())
    adapters = training_memory(one, TrainingAlgorithm(lora_rank=16))
    assert adapters.optimizer < full.optimizer / 100
    assert adapters.gradients < full.gradients / 100
    assert adapters.weights == pytest.approx(full.weights, rel=0.01)


def test_what_does_not_fit_is_refused_by_its_largest_part() -> None:
    with pytest.raises(TrainingDoesNotFitError, match="largest part are its optimizer") as caught:
        check_fit(lookup_architecture("llama-3.1-8b"), TrainingAlgorithm(), A100)
    assert caught.value.part == "optimizer"
    assert caught.value.needed_bytes > caught.value.room_bytes


def test_checkpoint_of_gpt_3_is_12_bytes_a_parameter() -> None:
    assert checkpoint_bytes(GPT_3, TrainingAlgorithm()) == pytest.approx(12 * 174.6e9, rel=0.001)


def test_impossible_algorithms_are_named() -> None:
    with pytest.raises(ValueError, match="zero of the training is 4"):
        TrainingAlgorithm(zero=4)
    with pytest.raises(ValueError, match="multiple of micro_batch"):
        TrainingAlgorithm(micro_batch=3, global_batch=4)
    with pytest.raises(ValueError, match="interleave is 2"):
        TrainingAlgorithm(interleave=2)
