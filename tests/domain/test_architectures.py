"""Built-in architectures: counted, they have the parameters that their authors publish."""

import pytest

from meted.domain.architecture import Architecture, Experts
from meted.domain.catalogue import ARCHITECTURES, MODEL_ALIASES, UnknownFactError
from meted.domain.catalogue import lookup_architecture as lookup
from meted.predict.counting import parameters

PUBLISHED = {
    # Exact: parameters of the checkpoints on Hugging Face, safetensors metadata of the named
    # model (meta-llama, mistralai, Qwen, google, microsoft, openai-community, facebook, ...).
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.2": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "phi-3-mini": 3_821_079_552,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "gemma-3-1b": 999_885_952,
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bloom-7.1b": 7_069_016_064,
    "bloom-176b": 176_247_271_424,
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "roberta-base": 124_645_632,
    "all-minilm-l6-v2": 22_713_216,
    "all-minilm-l12-v2": 33_360_000,
    # Exact: torchvision's documentation of vit_b_16, vit_l_16 and vit_h_14 (linear weights).
    "vit-b-16": 86_567_656,
    "vit-l-16": 304_326_632,
    "vit-h-14": 632_045_800,
}

ROUNDED = {
    # Touvron et al. 2023, table 2: 32.5B and 65.2B.
    "llama-33b": (32.5e9, 0.01),
    "llama-65b": (65.2e9, 0.01),
    # Mistral AI 2024: 141B. DeepSeek-AI 2024: 236B, 15.7B, 671B.
    "mixtral-8x22b": (141e9, 0.01),
    "deepseek-v2": (236e9, 0.01),
    "deepseek-v2-lite": (15.7e9, 0.01),
    "deepseek-v3": (671e9, 0.01),
    # Qwen Team 2025, model cards: 1.7B, 4.0B, 14.8B.
    "qwen3-1.7b": (1.7e9, 0.015),
    "qwen3-4b": (4.0e9, 0.01),
    "qwen3-14b": (14.8e9, 0.01),
    # Gemma 3 report, table 1: 1,416M + 25,600M; Google's announcement: 170M + 100M.
    "gemma-3-27b": (27.016e9, 0.01),
    "gemma-3-270m": (270e6, 0.01),
    # Brown et al. 2020, table D.1, millions.
    "gpt3-1.3b": (1_320e6, 0.01),
    "gpt3-6.7b": (6_660e6, 0.01),
    "gpt3-13b": (12_850e6, 0.01),
    "gpt3-175b": (174_600e6, 0.01),
    # Zhang et al. 2022, table 1, named by their rounded sizes.
    "opt-125m": (125e6, 0.01),
    "opt-1.3b": (1.3e9, 0.015),
    "opt-6.7b": (6.7e9, 0.01),
    "opt-13b": (13e9, 0.015),
    "opt-30b": (30e9, 0.01),
    "opt-66b": (66e9, 0.01),
    "opt-175b": (175e9, 0.01),
    # Narayanan et al. 2021, table 1, billions with one decimal: 1.65 is written 1.7 there.
    "megatron-1.7b": (1.7e9, 0.03),
    "megatron-3.6b": (3.6e9, 0.015),
    "megatron-7.5b": (7.5e9, 0.01),
    "megatron-18.4b": (18.4e9, 0.01),
    "megatron-39.1b": (39.1e9, 0.01),
    "megatron-76.1b": (76.1e9, 0.01),
    "megatron-145.6b": (145.6e9, 0.01),
    "megatron-310.1b": (310.1e9, 0.01),
    "megatron-529.6b": (529.6e9, 0.01),
    "megatron-1t": (1008.0e9, 0.01),
}
"""Sizes published rounded, and the most by which a count may differ; above 1 % only where the
rounding itself is that coarse."""

ACTIVE = {
    # Jiang et al. 2024: 12.9B; Mistral AI 2024: 39B; DeepSeek-AI: 21B, 2.4B, 37B; Qwen Team 2025:
    # 3.3B and 22B, which count the embedding's rows in.
    "mixtral-8x7b": (12.9e9, 0.02),
    "mixtral-8x22b": (39e9, 0.02),
    "deepseek-v2": (21e9, 0.02),
    "deepseek-v2-lite": (2.4e9, 0.03),
    "deepseek-v3": (37e9, 0.02),
    "qwen3-235b-a22b": (22e9, 0.02),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_checkpoints_own_to_the_last_one(name: str) -> None:
    assert parameters(ARCHITECTURES[name]).total == PUBLISHED[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_parameters_are_the_published_size(name: str) -> None:
    size, tolerance = ROUNDED[name]
    assert parameters(ARCHITECTURES[name]).total == pytest.approx(size, rel=tolerance)


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name: str) -> None:
    size, tolerance = ACTIVE[name]
    assert parameters(ARCHITECTURES[name]).active == pytest.approx(size, rel=tolerance)


def test_every_architecture_is_held_against_a_published_size_and_names_its_source() -> None:
    assert {*PUBLISHED, *ROUNDED} == set(ARCHITECTURES)
    assert all(len(one.source) > 10 for one in ARCHITECTURES.values())


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b-v0.1"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3"),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", "mixtral-8x22b"),
        ("Qwen/Qwen2.5-72B-Instruct", "qwen2.5-72b"),
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("openai-community/gpt2", "gpt2-small"),
        ("GPT-3 175B", "gpt3-175b"),
        ("gpt-3", "gpt3-175b"),
        ("bigscience/bloom", "bloom-176b"),
    ],
)
def test_models_are_found_as_people_and_hugging_face_write_them(said: str, name: str) -> None:
    assert lookup(said).name == name


def test_aliases_lead_to_models_and_hide_none() -> None:
    assert set(MODEL_ALIASES.values()) <= set(ARCHITECTURES)
    assert not set(MODEL_ALIASES) & set(ARCHITECTURES)
    assert all(lookup(name).name == name for name in ARCHITECTURES)


def test_a_quantised_or_unknown_model_is_no_guess_but_a_sentence_with_near_names() -> None:
    with pytest.raises(UnknownFactError, match=r"model 'llama-3\.1-71b' is not known; near names"):
        lookup("llama-3.1-71b")
    with pytest.raises(UnknownFactError, match=r"config\.json.*facts file"):
        lookup("completely-else")


def test_a_described_architecture_wins_over_the_built_in_one() -> None:
    mine = ARCHITECTURES["smollm2-135m"]
    assert lookup("llama-7b", {"llama-7b": mine}) is mine


def shape(**changes: object) -> Architecture:
    facts: dict[str, object] = {
        **{"name": "mine", "family": "mine", "layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2},
        **{"head_dim": 16, "ffn": 128, "gated": True, "vocab": 100, "tied": True},
        **{"positions": 64, "source": "a test"},
    }
    return Architecture(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("layers", {"layers": 0}),
        ("vocab", {"vocab": 0}),
        ("kv_heads", {"kv_heads": 3}),
        ("window", {"window": 8}),
        ("window_layers", {"window": 8, "window_layers": 3}),
        ("dense_layers", {"experts": Experts(count=4, active=1, ffn=8, dense_layers=3)}),
    ],
)
def test_an_impossible_fact_is_named(fact: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"\b{fact} of mine is "):
        shape(**changes)


def test_no_token_visits_more_experts_than_there_are() -> None:
    with pytest.raises(ValueError, match="active of experts is 5, expected at most"):
        Experts(count=4, active=5, ffn=8)
