"""P for serving: more work takes longer, devices help where they can, bits and experts count."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.device_kind import Precision
from meted.predict.counting import prompt_flops_per_pair
from meted.predict.energy import READING_POWER, step_energy
from meted.predict.ideal import StepParts, ideal_step
from meted.predict.roofline import Factors, Setup, combine, predict_replica
from meted.predict.step_time import StepWork

IDEAL = Factors(
    compute=1.0,
    memory=1.0,
    cache=1.0,
    link=1.0,
    spill=1e-9,
    fixed_micros=1e-9,
    prompt_micros=1e-9,
    layer_micros=1e-9,
    sequence_micros=1e-9,
    message_micros=1e-9,
)


def setup(
    model: str = "llama-2-70b",
    kind: str = "a100-80gb",
    parallelism: Parallelism = Parallelism(tensor=4),
    **changes: object,
) -> Setup:
    return Setup(
        architecture=ARCHITECTURES[model],
        kind=DEVICE_KINDS[kind],
        algorithm=replace(ServingAlgorithm(parallelism=parallelism), **changes),
    )


def decode(batch: int, context: int) -> StepWork:
    return StepWork(prefill_tokens=0, decode_tokens=batch, context_tokens=batch * context)


def prefill(tokens: int) -> StepWork:
    return StepWork(
        prefill_tokens=tokens, decode_tokens=0, context_tokens=0, attended=tokens * tokens // 2
    )


def parts(one: Setup, work: StepWork) -> StepParts:
    return ideal_step(one).parts(work)


SETUPS = st.sampled_from(
    [
        setup(),
        setup("llama-2-7b", parallelism=Parallelism()),
        setup("mixtral-8x7b", parallelism=Parallelism(tensor=2, data=2, expert=4)),
        setup("mistral-7b-v0.1", parallelism=Parallelism(pipeline=2)),
        setup("deepseek-v3", "h200-141gb", Parallelism(tensor=8, pipeline=2)),
        setup("bert-base", "t4", Parallelism(), compute=Precision.FP16),
    ]
)
WORKS = st.builds(
    StepWork,
    prefill_tokens=st.integers(0, 20_000),
    decode_tokens=st.integers(0, 300),
    context_tokens=st.integers(0, 1_000_000),
    attended=st.integers(0, 100_000_000),
)


@given(SETUPS, WORKS, st.integers(1, 10_000))
def test_more_context_or_pairs_never_take_less_time(one: Setup, work: StepWork, more: int) -> None:
    step = predict_replica(one).step
    for longer in (
        replace(work, context_tokens=work.context_tokens + more),
        replace(work, attended=work.attended + more),
    ):
        assert step.micros(longer) >= step.micros(work) * (1 - 1e-12)


@given(WORKS, st.integers(1, 10_000))
def test_more_tokens_never_take_less_time(work: StepWork, more: int) -> None:
    step = predict_replica(setup()).step
    for longer in (
        replace(work, prefill_tokens=work.prefill_tokens + more),
        replace(work, decode_tokens=work.decode_tokens + more),
    ):
        assert step.micros(longer) > step.micros(work)


@given(st.integers(1, 200), st.integers(0, 500_000), st.integers(1, 100_000))
def test_a_dense_models_step_is_convex_in_context(batch: int, context: int, more: int) -> None:
    step = predict_replica(setup()).step
    low, middle, high = (
        step.micros(replace(decode(batch, 0), context_tokens=context + times * more))
        for times in range(3)
    )
    assert middle <= (low + high) / 2 * (1 + 1e-12)


@given(WORKS)
def test_more_devices_for_each_matrix_never_compute_longer(work: StepWork) -> None:
    four, eight = (parts(setup(parallelism=Parallelism(tensor=size)), work) for size in (4, 8))
    assert eight.compute <= four.compute
    assert eight.weights < four.weights
    assert eight.cache <= four.cache


def test_more_devices_for_each_matrix_talk_more() -> None:
    hops = [
        parts(setup(parallelism=Parallelism(tensor=size)), decode(1, 100)).hops
        for size in (1, 2, 4, 8)
    ]
    assert hops == [0, 160, 320, 480]


def test_an_ideal_decode_step_reads_the_weights_once() -> None:
    step = predict_replica(setup(), IDEAL).step
    weights = 137.95e9 - 2 * 32_000 * 8192
    assert step.micros(decode(1, 0)) == pytest.approx(
        1e6 * weights / (4 * 2.039e12) + 160 * 2 * 5.0, rel=0.01
    )


def test_an_ideal_prefill_is_two_flops_per_parameter() -> None:
    one = setup("llama-2-7b", parallelism=Parallelism())
    tokens = 4096
    layers = 6.476e9
    pairs = 4 * 32 * 32 * 128 * tokens**2 / 2
    flops = 2 * layers * tokens + pairs
    assert parts(one, prefill(tokens)).compute == pytest.approx(1e6 * flops / 312e12, rel=0.01)


def test_a_token_reads_the_experts_it_visits_and_a_large_batch_reads_all() -> None:
    one = setup("mixtral-8x7b", parallelism=Parallelism(tensor=2))
    dense_and_two, all_of_them = 12.88e9, 46.57e9
    bandwidth = 2 * 2.039e12
    alone = parts(one, decode(1, 100)).weights
    full = parts(one, decode(256, 100)).weights
    assert alone == pytest.approx(1e6 * 2 * dense_and_two / bandwidth, rel=0.02)
    assert full == pytest.approx(1e6 * 2 * all_of_them / bandwidth, rel=0.02)


def test_a_batch_of_n_visits_the_expected_number_of_distinct_experts() -> None:
    one = setup("mixtral-8x7b", parallelism=Parallelism(tensor=2))
    reads = [parts(one, decode(batch, 0)).weights for batch in (1, 2, 3, 4)]
    fewer = [1 - 0.75**batch for batch in (1, 2, 3, 4)]
    for before in (1, 2):
        read = (reads[before + 1] - reads[before]) / (reads[1] - reads[0])
        visited = (fewer[before + 1] - fewer[before]) / (fewer[1] - fewer[0])
        assert read == pytest.approx(visited)


def test_spread_experts_are_read_by_their_own_devices_only() -> None:
    together = setup("deepseek-v3", "h200-141gb", Parallelism(tensor=8), weights=Precision.FP8)
    spread = replace(
        together, algorithm=replace(together.algorithm, parallelism=Parallelism(data=16, expert=16))
    )
    assert ideal_step(spread).experts == pytest.approx(ideal_step(together).experts / 2)
    assert parts(spread, decode(64, 100)).wire > 0


def test_a_sliding_window_bounds_what_a_step_reads() -> None:
    one = setup("mistral-7b-v0.1", parallelism=Parallelism())
    short, window, far = (parts(one, decode(4, size)) for size in (2048, 4096, 32_768))
    assert window.cache == pytest.approx(2 * short.cache)
    assert far.cache == pytest.approx(window.cache)
    assert far.compute == pytest.approx(window.compute)


def test_latent_attention_computes_prompts_unfolded_and_reads_one_vector() -> None:
    deepseek = ARCHITECTURES["deepseek-v3"]
    assert prompt_flops_per_pair(deepseek) == 2 * 61 * 128 * (128 + 64 + 128)
    one = setup("deepseek-v3", "h200-141gb", Parallelism(tensor=8))
    expected = 1e6 * 1000 * 61 * (512 + 64) * 2 / one.kind.bandwidth
    assert parts(one, decode(1, 1000)).cache == pytest.approx(expected)


def test_key_heads_are_not_cut_by_more_devices_than_there_are() -> None:
    eight, sixteen = (
        parts(setup(parallelism=Parallelism(tensor=size)), decode(8, 1000)).cache
        for size in (8, 16)
    )
    assert sixteen == eight


def test_fewer_bits_read_less_and_compute_as_before() -> None:
    full, quarter = (
        parts(setup(weights=bits, kv=kv), decode(8, 1000))
        for bits, kv in ((Precision.BF16, Precision.BF16), (Precision.INT4, Precision.FP8))
    )
    assert quarter.weights == pytest.approx(full.weights * 4.25 / 16, rel=0.02)
    assert quarter.cache == full.cache / 2
    assert quarter.compute == full.compute


def test_a_lone_request_passes_all_stages_and_a_batch_fills_them() -> None:
    whole = setup(parallelism=Parallelism(tensor=2))
    staged = setup(parallelism=Parallelism(tensor=2, pipeline=4))
    alone, full = decode(1, 1000), decode(256, 1000)
    assert parts(staged, alone).compute == parts(whole, alone).compute
    assert parts(staged, full).compute == pytest.approx(parts(whole, full).compute / 4)
    assert parts(staged, full).weights == parts(whole, full).weights


def test_data_copies_share_a_batch() -> None:
    one, two = (setup(parallelism=Parallelism(tensor=4, data=copies)) for copies in (1, 2))
    assert parts(two, decode(64, 100)).compute == parts(one, decode(32, 100)).compute
    assert parts(two, decode(64, 100)).cache == parts(one, decode(32, 100)).cache


def test_an_encoder_has_no_cache_and_no_head() -> None:
    one = setup("bert-base", "t4", Parallelism(), compute=Precision.FP16)
    assert ideal_step(one).cache == 0
    assert ideal_step(one).head == 0


def test_a_missing_peak_names_kind_and_precision() -> None:
    with pytest.raises(ValueError, match=r"v100-16gb has no peak FLOP/s for fp8"):
        predict_replica(
            setup("llama-2-7b", "v100-16gb", Parallelism(tensor=2), compute=Precision.FP8)
        )


def test_a_step_with_prompts_and_decodes_costs_less_than_two_steps() -> None:
    step = predict_replica(setup()).step
    mixed = replace(prefill(512), decode_tokens=32, context_tokens=32_000)
    apart = step.micros(prefill(512)) + step.micros(decode(32, 1000))
    assert max(step.micros(prefill(512)), step.micros(decode(32, 1000))) < step.micros(mixed)
    assert step.micros(mixed) < apart


def test_launching_hides_behind_a_slow_device_and_bounds_a_fast_one() -> None:
    launch = replace(IDEAL, layer_micros=500.0)
    fast = combine(parts(setup("smollm2-135m", "h100-80gb", Parallelism()), decode(1, 0)), launch)
    assert fast == pytest.approx(30 * 500, rel=0.01)
    slow = parts(setup(), prefill(8192))
    assert combine(slow, launch) == pytest.approx(combine(slow, IDEAL), rel=0.01)


def test_large_messages_pay_again_and_small_ones_do_not() -> None:
    small, large = parts(setup(), prefill(2048)), parts(setup(), prefill(4096))
    assert small.spilled == 0
    assert large.spilled == pytest.approx(large.wire / 2)


def test_energy_lies_between_idle_and_busy_power() -> None:
    one = setup()
    for work in (decode(1, 100), decode(256, 1000), prefill(8192)):
        energy = step_energy(one, work)
        assert 4 * one.kind.watts_idle < energy.watts < 4 * one.kind.watts_busy
        assert energy.joules.low < energy.joules.expected < energy.joules.high
        micros = predict_replica(one).step.micros(work)
        assert energy.joules.expected == pytest.approx(energy.watts * micros / 1e6)


def test_reading_draws_most_of_the_swing_and_waiting_none_of_it() -> None:
    one = setup()
    idle, swing = one.kind.watts_idle, one.kind.watts_busy - one.kind.watts_idle
    reading = step_energy(one, decode(1, 0), IDEAL)
    assert reading.watts / 4 == pytest.approx(
        idle + READING_POWER * swing * reading.utilisation, rel=0.01
    )
    waiting = step_energy(one, decode(1, 0), replace(IDEAL, fixed_micros=1e9))
    assert waiting.watts / 4 == pytest.approx(idle, rel=0.01)


def test_a_token_in_a_large_batch_takes_less_energy() -> None:
    one = setup()
    alone, many = (step_energy(one, decode(batch, 500)) for batch in (1, 64))
    assert many.joules_per_token.expected < alone.joules_per_token.expected / 20


def test_prefill_draws_more_power_than_decode() -> None:
    assert step_energy(setup(), prefill(8192)).watts > step_energy(setup(), decode(1, 500)).watts


@given(WORKS)
def test_step_time_is_finite_and_positive(work: StepWork) -> None:
    micros = predict_replica(setup()).step.micros(work)
    assert math.isfinite(micros)
    assert micros > 0
