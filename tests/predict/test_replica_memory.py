"""Where memory goes: the published KV cache sizes, layouts, bits, and what does not fit."""

from dataclasses import replace

import pytest

from meted.domain.algorithm import Parallelism, ServingAlgorithm, Speculation
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.device_kind import Precision
from meted.predict.memory import largest_batch, replica_memory
from meted.predict.roofline import DoesNotFitError, Setup, predict_replica


def setup(
    model: str, kind: str, parallelism: Parallelism = Parallelism(), **changes: object
) -> Setup:
    return Setup(
        architecture=ARCHITECTURES[model],
        kind=DEVICE_KINDS[kind],
        algorithm=replace(ServingAlgorithm(parallelism=parallelism), **changes),
    )


@pytest.mark.parametrize(
    ("model", "kind", "tensor", "slots"),
    [
        ("opt-13b", "a100-40gb", 1, 15_700),
        ("opt-66b", "a100-40gb", 4, 9_700),
        ("opt-175b", "a100-80gb", 8, 60_100),
    ],
)
def test_kv_slots_are_those_that_vllm_publishes(
    model: str, kind: str, tensor: int, slots: int
) -> None:
    """Kwon et al. 2023, table 1."""
    memory = replica_memory(setup(model, kind, Parallelism(tensor=tensor)))
    assert memory.kv_tokens == pytest.approx(slots, rel=0.06)


def test_fewer_bits_leave_more_room() -> None:
    full, half, quarter = (
        replica_memory(setup("llama-2-70b", "a100-80gb", Parallelism(tensor=4), weights=bits))
        for bits in (Precision.BF16, Precision.INT8, Precision.INT4)
    )
    assert full.weights > half.weights * 1.8 > quarter.weights * 3
    assert full.kv_tokens < half.kv_tokens < quarter.kv_tokens


def test_a_kv_cache_in_half_the_bits_holds_twice_the_tokens() -> None:
    full, half = (
        replica_memory(setup("llama-2-70b", "a100-80gb", Parallelism(tensor=4), kv=bits))
        for bits in (Precision.BF16, Precision.FP8)
    )
    assert half.kv_tokens == pytest.approx(2 * full.kv_tokens, abs=1)


def test_what_does_not_fit_says_what_is_missing() -> None:
    with pytest.raises(DoesNotFitError, match=r"llama-2-70b has 138.0 GB .* take more devices"):
        predict_replica(setup("llama-2-70b", "a100-80gb"))


def test_key_heads_that_are_not_cut_are_kept_by_each_device() -> None:
    eight, sixteen = (
        replica_memory(setup("llama-2-70b", "a100-80gb", Parallelism(tensor=size)))
        for size in (8, 16)
    )
    assert sixteen.token == eight.token
    assert sixteen.kv_tokens < 1.2 * eight.kv_tokens


def test_stages_keep_the_cache_of_their_own_layers() -> None:
    one, four = (
        replica_memory(setup("llama-2-70b", "a100-80gb", Parallelism(tensor=2, pipeline=stages)))
        for stages in (1, 4)
    )
    assert four.token == one.token / 4
    assert four.weights == pytest.approx(one.weights / 4, rel=0.02)


def test_data_copies_keep_all_but_the_experts() -> None:
    one, two = (
        replica_memory(setup("mixtral-8x7b", "a100-80gb", layout))
        for layout in (Parallelism(tensor=2), Parallelism(tensor=2, data=2, expert=4))
    )
    experts = 32 * 8 * 3 * 4096 * 14_336 * 2
    assert one.weights - two.weights == pytest.approx(experts / 4)
    assert two.weights_everywhere == pytest.approx(one.weights_everywhere * 2 - experts)


def test_the_largest_batch_fills_the_cache() -> None:
    one = setup("llama-2-70b", "a100-80gb", Parallelism(tensor=4))
    memory = replica_memory(one)
    batch = largest_batch(one, 4096)
    assert batch * 4096 <= memory.kv_tokens < (batch + 1) * 4096


def test_windows_bound_what_a_long_request_keeps() -> None:
    one = setup("mistral-7b-v0.1", "a100-80gb")
    assert largest_batch(one, 32_768) == largest_batch(one, 4096)


def test_an_encoder_keeps_no_cache() -> None:
    one = setup("bert-base", "t4", compute=Precision.FP16, max_batch=32)
    assert largest_batch(one, 512) == 32
    assert replica_memory(one).kv_tokens == 32 * 512


def test_a_draft_takes_room_for_its_weights_and_its_cache() -> None:
    plain = setup("llama-2-70b", "a100-80gb", Parallelism(tensor=4))
    guess = Speculation(draft=ARCHITECTURES["llama-2-7b"], tokens=4, acceptance=0.7)
    drafted = replace(plain, algorithm=replace(plain.algorithm, speculation=guess))
    before, after = replica_memory(plain), replica_memory(drafted)
    assert after.weights - before.weights == pytest.approx(2 * 6.738e9 / 4, rel=0.01)
    assert after.token - before.token == 2 * 32 * 4096 * 2 / 4
    assert after.kv_tokens < before.kv_tokens


def test_a_large_step_takes_its_workspace_from_the_cache() -> None:
    small, large = (
        replica_memory(setup("llama-2-7b", "a100-80gb", chunk_tokens=chunk))
        for chunk in (512, 65_536)
    )
    assert small.room - large.room == pytest.approx(large.workspace - small.workspace)


@pytest.mark.parametrize("expert", [3, 16])
def test_experts_are_spread_over_a_divisor_of_the_devices(expert: int) -> None:
    with pytest.raises(ValueError, match=f"expert parallelism is {expert}, expected a divisor"):
        Parallelism(tensor=4, data=2, expert=expert)
