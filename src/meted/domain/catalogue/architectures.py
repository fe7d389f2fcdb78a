"""Architectures by name, and the other names under which people know them."""

from collections.abc import Mapping
from types import MappingProxyType

from meted.domain.architecture import Architecture
from meted.domain.catalogue.encoders import ENCODERS
from meted.domain.catalogue.gemma_family import GEMMA_FAMILY
from meted.domain.catalogue.gpt_family import GPT_FAMILY
from meted.domain.catalogue.llama_family import LLAMA_FAMILY
from meted.domain.catalogue.mixtures import MIXTURES
from meted.domain.catalogue.qwen_family import QWEN_FAMILY

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        one.name: one
        for family in (LLAMA_FAMILY, MIXTURES, QWEN_FAMILY, GEMMA_FAMILY, GPT_FAMILY, ENCODERS)
        for one in family
    }
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "llama-1-7b": "llama-7b",
        "llama-1-13b": "llama-13b",
        "llama-1-33b": "llama-33b",
        "llama-1-65b": "llama-65b",
        "llama-30b": "llama-33b",
        "llama-3.3-70b": "llama-3.1-70b",
        "mistral-7b": "mistral-7b-v0.1",
        "mixtral-8x7b-v0.1": "mixtral-8x7b",
        "mixtral-8x22b-v0.1": "mixtral-8x22b",
        "phi-3-mini-4k": "phi-3-mini",
        "deepseek-r1": "deepseek-v3",
        "deepseek-r1-0528": "deepseek-v3",
        "deepseek-v3-0324": "deepseek-v3",
        "gpt2": "gpt2-small",
        "gpt3": "gpt3-175b",
        "gpt3-xl": "gpt3-1.3b",
        "bloom": "bloom-176b",
        "bloom-7b1": "bloom-7.1b",
        "megatron-1008b": "megatron-1t",
        "megatron-530b": "megatron-529.6b",
        "bert-base-uncased": "bert-base",
        "bert-large-uncased": "bert-large",
        "vit-base-patch16-224": "vit-b-16",
        "vit-large-patch16-224": "vit-l-16",
        "vit-huge-patch14-224": "vit-h-14",
    }
)
"""Models of the same architecture and context (bert-base-cased has another vocabulary)."""
