"""What is counted agrees with what is published: KV cache, FLOPs, attention."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.catalogue import ARCHITECTURES, lookup_architecture
from meted.domain.device_kind import Precision
from meted.predict.counting import (
    attended_pairs,
    flops_per_pair,
    flops_per_token,
    kv_bytes,
    kv_bytes_per_token,
    parameters,
    sequence_flops,
    weight_bytes,
)

KIB = 1024


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # Ainslie et al. 2023 (GQA): 2 * 80 layers * 8 heads * 128 * 2 bytes.
        ("llama-2-70b", 320 * KIB),
        ("llama-2-7b", 512 * KIB),
        ("llama-3.1-8b", 128 * KIB),
        # DeepSeek-AI 2025 (arXiv 2505.09343), table 1: 70.272, 516.096 and 327.680 KB.
        ("deepseek-v3", 70_272),
        ("llama-3.1-405b", 516_096),
        ("qwen2.5-72b", 327_680),
        # Kwon et al. 2023 (vLLM), section 3: 800 KB for a token of OPT-13B.
        ("opt-13b", 800 * KIB),
    ],
)
def test_kv_cache_of_a_token_is_the_published_one(name: str, published: int) -> None:
    assert kv_bytes_per_token(lookup_architecture(name), Precision.BF16) == published


def test_training_gpt_3_takes_the_published_operations() -> None:
    """Brown et al. 2020, table D.1: 3.14e23 FLOP for 300 billion tokens, backward twice forward."""
    assert 3 * flops_per_token(ARCHITECTURES["gpt3-175b"]) * 300e9 == pytest.approx(
        3.14e23, rel=0.002
    )


def test_an_iteration_of_megatron_takes_its_formulas_operations() -> None:
    """Narayanan et al. 2021, equation 3: 96 B s l h^2 (1 + s / 6h + V / 16lh), of which four
    parts are two forward passes (one recomputed) and a backward pass. It lets each token attend
    to all others, causal attention to half of them."""
    one = ARCHITECTURES["megatron-145.6b"]
    tokens, layers, hidden, vocab = 2048, one.layers, one.hidden, one.vocab
    forward = 24 * tokens * layers * hidden**2 * (1 + tokens / (6 * hidden))
    forward += 2 * tokens * hidden * vocab
    ours = flops_per_token(one) * tokens + flops_per_pair(one) * tokens**2
    assert ours == pytest.approx(forward, rel=0.001)
    assert ours - sequence_flops(one, tokens) == pytest.approx(
        flops_per_pair(one) * tokens**2 / 2, rel=0.001
    )


@pytest.mark.parametrize(
    ("name", "giga"),
    # torchvision's documentation of its weights, multiply-adds.
    [("vit-b-16", 17.56), ("vit-l-16", 61.55), ("vit-h-14", 167.29)],
)
def test_an_image_takes_the_published_operations(name: str, giga: float) -> None:
    one = ARCHITECTURES[name]
    assert sequence_flops(one, one.positions) / 2e9 == pytest.approx(giga, rel=0.006)


@pytest.mark.parametrize(
    ("name", "giga"), [("deepseek-v2", 155), ("deepseek-v3", 250), ("llama-3.1-405b", 2448)]
)
def test_a_trained_token_takes_the_published_operations(name: str, giga: float) -> None:
    """DeepSeek-AI 2025 (arXiv 2505.09343), table 2: visited experts only, causal attention over
    4096 tokens included."""
    one = ARCHITECTURES[name]
    assert 3 * sequence_flops(one, 4096) / 4096 / 1e9 == pytest.approx(giga, rel=0.015)


def test_windowed_layers_keep_no_more_than_their_window() -> None:
    gemma = ARCHITECTURES["gemma-3-27b"]
    token = kv_bytes_per_token(gemma, Precision.BF16)
    assert kv_bytes(gemma, Precision.BF16, 1024) == pytest.approx(1024 * token)
    # 10 of 62 layers see all; the others keep 1024 tokens.
    assert kv_bytes(gemma, Precision.BF16, 32_768) == pytest.approx(
        token * (10 * 32_768 + 52 * 1024) / 62
    )


@given(tokens=st.integers(1, 60), window=st.one_of(st.none(), st.integers(1, 60)))
def test_attended_pairs_are_those_that_a_mask_lets_through(tokens: int, window: int | None) -> None:
    seen = sum(
        1
        for query in range(tokens)
        for key in range(query + 1)
        if window is None or query - key < window
    )
    assert attended_pairs(tokens, window) == seen


def test_quantised_weights_leave_embedding_and_head_in_16_bits() -> None:
    one = ARCHITECTURES["llama-3.1-8b"]
    assert weight_bytes(one, Precision.BF16) == 2 * parameters(one).total
    # 4.25 bits in the layers, scales included; 2 * 128,256 * 4096 numbers and a norm in 16.
    assert weight_bytes(one, Precision.INT4) == pytest.approx(5.81e9, rel=0.002)
