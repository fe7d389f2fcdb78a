"""config.json is read as transformers reads it: the networks that it builds are the oracle."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from meted.domain.catalogue import ARCHITECTURES
from meted.domain.device_kind import Precision
from meted.live.facts import FactError, architecture_from_config, weights_from_config
from meted.live.facts.config_json import READERS
from meted.predict.counting import parameters

WIDTHS = {
    **{"hidden_size": 48, "num_hidden_layers": 7, "num_attention_heads": 6, "vocab_size": 101},
    **{"intermediate_size": 80, "max_position_embeddings": 64},
}
GROUPED = {**WIDTHS, "num_key_value_heads": 2, "pad_token_id": 0}
OLD = {"n_embd": 48, "n_layer": 5, "n_head": 6, "vocab_size": 101, "n_positions": 64}
LATENT = {
    **{"kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16},
    **{"v_head_dim": 12, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 2},
    **{"moe_intermediate_size": 40, "first_k_dense_replace": 2, "n_group": 2, "topk_group": 1},
    **{"num_key_value_heads": 6},
}
SHAPES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "CausalLM", {**GROUPED, "tie_word_embeddings": True}),
    ("llama", "CausalLM", {**GROUPED, "head_dim": 16}),
    ("llama", "CausalLM", {**GROUPED, "attention_bias": True}),
    ("mistral", "CausalLM", {**GROUPED, "sliding_window": None}),
    (
        "qwen2_moe",
        "CausalLM",
        {**GROUPED, "moe_intermediate_size": 24, "num_experts": 8, "num_experts_per_tok": 2,
         "shared_expert_intermediate_size": 96},
    ),
    ("mixtral", "CausalLM", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    ("qwen2", "CausalLM", GROUPED),
    ("qwen3", "CausalLM", {**GROUPED, "head_dim": 16}),
    (
        "qwen3_moe",
        "CausalLM",
        {**GROUPED, "head_dim": 16, "moe_intermediate_size": 24, "num_experts": 8,
         "num_experts_per_tok": 2},
    ),
    ("gemma2", "CausalLM", {**GROUPED, "head_dim": 16, "sliding_window": 8}),
    ("gemma3_text", "CausalLM", {**GROUPED, "head_dim": 16, "sliding_window": 8}),
    ("phi3", "CausalLM", {**GROUPED, "sliding_window": 8}),
    ("deepseek_v2", "CausalLM", {**WIDTHS, **LATENT}),
    ("deepseek_v3", "CausalLM", {**WIDTHS, **LATENT, "q_lora_rank": None}),
    ("gpt2", "CausalLM", OLD),
    ("gpt2", "CausalLM", {**OLD, "n_inner": 100}),
    ("gpt_neox", "CausalLM", WIDTHS),
    ("opt", "CausalLM", {**WIDTHS, "ffn_dim": 80, "word_embed_proj_dim": 48, "pad_token_id": 0}),
    ("bloom", "CausalLM", {"hidden_size": 48, "n_layer": 5, "n_head": 6, "vocab_size": 101}),
    ("falcon", "CausalLM", WIDTHS),
    ("falcon", "CausalLM", {**WIDTHS, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("bert", "", WIDTHS),
    ("roberta", "", {**WIDTHS, "type_vocab_size": 1, "pad_token_id": 0}),
    ("vit", "", {**WIDTHS, "image_size": 32, "patch_size": 8}),
    ("vit", "ImageClassification", {**WIDTHS, "image_size": 32, "patch_size": 8, "num_labels": 5}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "head", "facts"),
    SHAPES,
    ids=[f"{kind}-{at}" for at, (kind, _, _) in enumerate(SHAPES)],
)
def test_a_network_built_from_it_has_as_many_parameters(
    kind: str, head: str, facts: dict[str, Any]
) -> None:
    config = transformers.AutoConfig.for_model(kind, **facts)
    maker = {
        "CausalLM": transformers.AutoModelForCausalLM,
        "ImageClassification": transformers.AutoModelForImageClassification,
        "": transformers.AutoModel,
    }[head]
    with torch.device("meta"):
        network = maker.from_config(config)
    # Rotary tables and the bias that balances experts are no weights that a token multiplies.
    built = sum(weight.numel() for weight in network.parameters())
    one = architecture_from_config(
        {**config.to_dict(), "architectures": [type(network).__name__]}, "mine"
    )
    assert parameters(one).total == built
    assert one.vocab == (101 if kind != "vit" else 0)
    sliding = getattr(config, "layer_types", None) or []
    if one.window is not None and sliding:
        assert one.window_layers == sliding.count("sliding_attention")


LLAMA_3_1_8B = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"},
    **{"hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072},
    **{"num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8},
    **{"tie_word_embeddings": False, "vocab_size": 128256, "attention_bias": False},
}
GEMMA_3_27B = {
    "model_type": "gemma3",
    "torch_dtype": "bfloat16",
    "text_config": {
        **{"head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504},
        **{"model_type": "gemma3_text", "num_attention_heads": 32, "num_hidden_layers": 62},
        **{"num_key_value_heads": 16, "sliding_window": 1024},
    },
    "vision_config": {"hidden_size": 1152},
}
DEEPSEEK_V3 = {
    **{"model_type": "deepseek_v3", "first_k_dense_replace": 3, "hidden_size": 7168},
    **{"intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840},
    **{"moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_routed_experts": 256},
    **{"n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 8},
    **{"num_hidden_layers": 61, "num_key_value_heads": 128, "q_lora_rank": 1536},
    **{"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "tie_word_embeddings": False},
    **{"v_head_dim": 128, "vocab_size": 129280, "torch_dtype": "bfloat16"},
    "quantization_config": {"fmt": "e4m3", "quant_method": "fp8"},
}


@pytest.mark.parametrize(
    ("config", "name", "weights"),
    [
        (LLAMA_3_1_8B, "llama-3.1-8b", Precision.BF16),
        (GEMMA_3_27B, "gemma-3-27b", Precision.BF16),
        (DEEPSEEK_V3, "deepseek-v3", Precision.FP8),
    ],
)
def test_released_configurations_say_what_is_built_in(
    config: dict[str, Any], name: str, weights: Precision
) -> None:
    read = architecture_from_config(config, name)
    assert replace(read, source="") == replace(ARCHITECTURES[name], source="")
    assert weights_from_config(config, name) is weights


def test_mistral_slides_where_its_configuration_is_silent_and_not_where_it_says_null() -> None:
    config = {**GROUPED, "model_type": "mistral"}
    assert architecture_from_config(config, "old").window == 4096
    assert architecture_from_config({**config, "sliding_window": None}, "new").window is None


def test_qwen_slides_only_when_it_is_told_to_and_only_in_its_last_layers() -> None:
    config = {**GROUPED, "model_type": "qwen2", "sliding_window": 8, "max_window_layers": 4}
    assert architecture_from_config(config, "mine").window is None
    told = architecture_from_config({**config, "use_sliding_window": True}, "mine")
    assert (told.window, told.window_layers) == (8, 3)


@pytest.mark.parametrize(
    ("method", "weights"),
    [
        ({"quant_method": "gptq", "bits": 4}, Precision.INT4),
        ({"quant_method": "awq", "bits": 4}, Precision.INT4),
        ({"quant_method": "gptq", "bits": 8}, Precision.INT8),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Precision.INT8),
        (
            {"quant_method": "compressed-tensors",
             "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}},
            Precision.FP8,
        ),
        ({"quant_method": "gptq", "bits": 3}, None),
        ({"quant_method": "something-new"}, None),
    ],
)  # fmt: skip
def test_quantised_weights_are_told_where_that_is_plain(
    method: dict[str, Any], weights: Precision | None
) -> None:
    assert weights_from_config({"quantization_config": method}, "mine") is weights


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_fact_is_named(kind: str) -> None:
    with pytest.raises(FactError, match=r"config\.json of mine lacks \w+"):
        architecture_from_config({"model_type": kind}, "mine")


def test_a_wrong_fact_is_named_with_its_value() -> None:
    with pytest.raises(FactError, match=r"hidden_size of config\.json of mine is '4096', expected"):
        architecture_from_config({**LLAMA_3_1_8B, "hidden_size": "4096"}, "mine")
    with pytest.raises(FactError, match="kv_heads of mine is 5, expected a divisor"):
        architecture_from_config({**LLAMA_3_1_8B, "num_key_value_heads": 5}, "mine")


def test_an_unknown_model_type_is_named() -> None:
    with pytest.raises(FactError, match=r"model_type of config\.json of mine is mamba, expected"):
        architecture_from_config({"model_type": "mamba"}, "mine")
    with pytest.raises(FactError, match="is missing"):
        architecture_from_config({}, "mine")
