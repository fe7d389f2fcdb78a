"""Architectures from Hugging Face's config.json, without loading the model or its code."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from meted.domain.architecture import Architecture
from meted.domain.device_kind import Precision
from meted.live.facts.classic_configs import bert, bloom, falcon, gpt2, gpt_neox, opt, vit
from meted.live.facts.described import Described
from meted.live.facts.errors import FactError
from meted.live.facts.rotary_configs import (
    deepseek,
    gemma2,
    gemma3,
    llama,
    mistral,
    mixtral,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
)

READERS: Mapping[str, Callable[[Described, str], Architecture]] = MappingProxyType(
    {
        "llama": llama,
        "mistral": mistral,
        "mixtral": mixtral,
        "qwen2": qwen2,
        "qwen2_moe": qwen2_moe,
        "qwen3": qwen3,
        "qwen3_moe": qwen3_moe,
        "gemma2": gemma2,
        "gemma3": gemma3,
        "gemma3_text": gemma3,
        "phi3": phi3,
        "deepseek_v2": deepseek,
        "deepseek_v3": deepseek,
        "gpt2": gpt2,
        "gpt_neox": gpt_neox,
        "opt": opt,
        "bloom": bloom,
        "falcon": falcon,
        "bert": bert,
        "roberta": bert,
        "xlm-roberta": bert,
        "vit": vit,
    }
)
"""A reader for each model_type. A new one is a function here and a real config.json in a test."""

_DTYPES = {
    "float32": Precision.FP32,
    "bfloat16": Precision.BF16,
    "float16": Precision.FP16,
    "float8_e4m3fn": Precision.FP8,
}


def architecture_from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """The architecture that a config.json describes. Parts that see or hear are left out.

    Raises FactError, naming the fact, if the model_type is unknown or a key is missing or wrong.
    """
    whole = Described(title=f"config.json of {name}", values=config)
    kind = whole.text("model_type")
    reader = READERS.get(kind)
    if reader is None:
        raise FactError(
            f"model_type of config.json of {name} is {kind or 'missing'}, expected one of "
            f"{', '.join(READERS)}; describe the model in a facts file"
        )
    inner = whole.inner("text_config")
    try:
        return reader(whole if inner is None else inner, name)
    except FactError:
        raise
    except ValueError as error:
        raise FactError(f"config.json of {name}: {error}") from error


def weights_from_config(config: Mapping[str, Any], name: str) -> Precision | None:
    """As which the weights are kept, or None where config.json does not say it plainly."""
    whole = Described(title=f"config.json of {name}", values=config)
    quantised = whole.inner("quantization_config")
    if quantised is not None:
        return _quantised(quantised)
    dtype = whole.text("torch_dtype") or whole.text("dtype")
    if not dtype:
        inner = whole.inner("text_config")
        dtype = "" if inner is None else inner.text("torch_dtype") or inner.text("dtype")
    return _DTYPES.get(dtype)


def _quantised(config: Described) -> Precision | None:
    method = config.text("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
        return Precision.FP8
    if method in ("gptq", "awq"):
        return _of_bits(config.integer("bits", "w_bit"))
    if method == "bitsandbytes":
        if config.flag("load_in_4bit", default=False):
            return Precision.INT4
        return Precision.INT8 if config.flag("load_in_8bit", default=False) else None
    if method == "compressed-tensors":
        groups = config.inner("config_groups")
        first = None if groups is None else groups.inner(next(iter(groups.values), ""))
        weights = None if first is None else first.inner("weights")
        if weights is None:
            return None
        if weights.text("type") == "float":
            return Precision.FP8 if weights.integer("num_bits") == 8 else None
        return _of_bits(weights.integer("num_bits"))
    return None


def _of_bits(bits: int) -> Precision | None:
    return {4: Precision.INT4, 8: Precision.INT8}.get(bits)
