"""FLOPs of training: by 6 N D, by the papers' counts, and what recomputation and LoRA change."""

import pytest

from meted.domain.catalogue import lookup_architecture
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.counting import parameters
from meted.predict.training.flops import (
    lora_parameters,
    narayanan_flops,
    sequence_training_flops,
    six_nd,
)

GPT_3 = lookup_architecture("gpt3-175b")
FULL = TrainingAlgorithm(recomputation=Recomputation.FULL, flash_attention=False)


def test_gpt_3_took_3_14e23_flop() -> None:
    assert six_nd(parameters(GPT_3).total, 300e9) == pytest.approx(3.14e23, rel=0.01)


@pytest.mark.parametrize("name", ["megatron-1.7b", "megatron-39.1b", "megatron-1t"])
def test_general_count_with_full_recomputation_is_narayanans(name: str) -> None:
    one = lookup_architecture(name)
    paper = narayanan_flops(
        layers=one.layers, hidden=one.hidden, vocab=one.vocab, sequence_tokens=2048, sequences=1
    )
    assert sequence_training_flops(one, FULL).hardware == pytest.approx(paper, rel=0.002)


def test_attention_makes_training_dearer_than_six_nd_by_the_pairs_of_tokens() -> None:
    short, long = (
        sequence_training_flops(GPT_3, TrainingAlgorithm(sequence_tokens=tokens)).model / tokens
        for tokens in (512, 2048)
    )
    # Causal: half of 12 l h per token of context.
    assert long - short == pytest.approx(3 * 2 * 96 * 12288 * (2048 - 512), rel=1e-3)


def test_recomputation_adds_to_hardware_flops_only() -> None:
    told = [
        sequence_training_flops(GPT_3, TrainingAlgorithm(recomputation=one, flash_attention=False))
        for one in (Recomputation.NONE, Recomputation.SELECTIVE, Recomputation.FULL)
    ]
    assert told[0].model == told[1].model == told[2].model
    assert told[0].hardware < told[1].hardware < told[2].hardware
    # One more forward of the scores is 4 s^2 h a layer where all is 72 s h^2: s / 18 h.
    assert told[1].hardware / told[0].hardware - 1 == pytest.approx(2048 / 18 / 12288, rel=0.05)
    assert told[2].hardware / told[0].hardware == pytest.approx(4 / 3, abs=0.01)


def test_adapters_spare_a_third_of_the_flops() -> None:
    all_of_it = sequence_training_flops(GPT_3, TrainingAlgorithm()).model
    adapters = sequence_training_flops(GPT_3, TrainingAlgorithm(lora_rank=16)).model
    assert adapters / all_of_it == pytest.approx(2 / 3, abs=0.02)


def test_adapters_of_llama_2_7b_have_as_many_parameters_as_peft_counts() -> None:
    # Rank 16 on all seven matrices of each layer: 39,976,960.
    assert lora_parameters(lookup_architecture("llama-2-7b"), 16) == 39_976_960


def test_experts_cost_by_those_that_a_token_visits() -> None:
    mixtral = lookup_architecture("mixtral-8x7b")
    flops = sequence_training_flops(mixtral, TrainingAlgorithm(sequence_tokens=1)).model
    assert flops == pytest.approx(six_nd(parameters(mixtral).active, 1), rel=1e-3)
    assert parameters(mixtral).active < parameters(mixtral).total / 3
