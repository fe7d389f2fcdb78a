"""Architectures by name."""

from collections.abc import Mapping
from types import MappingProxyType

from meted.domain.architecture import Architecture

_LLAMA_2_70B = Architecture(
    name="llama-2-70b", family="llama", layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128,
    ffn=28672, gated=True, vocab=32000, tied=False, positions=4096,
    source="Touvron et al. 2023 (arXiv 2307.09288), config.json",
)  # fmt: skip
_GPT_3 = Architecture(
    name="gpt3-175b", family="gpt", layers=96, hidden=12288, heads=96, kv_heads=96, head_dim=128,
    ffn=49152, gated=False, vocab=50257, tied=True, positions=2048, position_rows=2048,
    source="Brown et al. 2020 (arXiv 2005.14165), table 2.1",
)  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {one.name: one for one in (_LLAMA_2_70B, _GPT_3)}
)
