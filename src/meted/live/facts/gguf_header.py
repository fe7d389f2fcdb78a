"""Architectures from a GGUF's header: its keys, and the shapes of its tensors."""
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meted.domain.architecture import Architecture, Biases, Experts, LatentAttention, ModelKind
from meted.domain.device_kind import Precision
from meted.live.checkpoints.gguf_source import read_gguf
from meted.live.facts.described import Described
from meted.live.facts.errors import FactError

if TYPE_CHECKING:
    from gguf import GGUFReader

FAMILIES: Mapping[str, str] = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "phi3": "phi3",
    "gpt2": "gpt",
    "gptneox": "gpt_neox",
    "bloom": "bloom",
    "falcon": "falcon",
    "deepseek2": "deepseek",
    "bert": "bert",
}
_WINDOW_PERIOD = {"gemma2": 2, "gemma3": 6}
"""One of so many layers sees all, where the file does not say so itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """What the shapes of a file's tensors tell. widths: elements by name; rows: of the tables."""

    widths: Mapping[str, int]
    rows: Mapping[str, int]

    def has(self, name: str) -> bool:
        return name in self.widths

    @property
    def outside(self) -> int:
        """Elements outside the layers that are no table of tokens or positions, and no head."""
        tables = ("token_embd.weight", "position_embd.weight", "output.weight")
        return sum(
            width
            for name, width in self.widths.items()
            if not name.startswith("blk.") and name not in tables
        )

    def norms(self, hidden: int) -> int:
        """Vectors as wide as `hidden` in the first layer's norms."""
        return sum(
            1
            for name, width in self.widths.items()
            if name.startswith("blk.0.") and "norm" in name and width == hidden
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFFacts:
    """What a header tells. weights: the precision nearest to its layers' bits; bytes of all."""

    architecture: Architecture
    weights: Precision
    weight_bytes: int


def read_gguf_facts(path: Path) -> GGUFFacts:
    """The facts of a GGUF file; its weights are not read.

    Raises CheckpointError if it is no whole GGUF, FactError if a fact is missing or unknown.
    """
    reader = read_gguf(path)
    name = path.stem.lower()
    try:
        architecture = _architecture(_keys(reader, path), _tensors(reader), name)
    except FactError:
        raise
    except ValueError as error:
        raise FactError(f"{path}: {error}") from error
    return GGUFFacts(
        architecture=architecture,
        weights=_precision(reader),
        weight_bytes=sum(int(tensor.n_bytes) for tensor in reader.tensors),
    )


def _keys(reader: "GGUFReader", path: Path) -> Described:
    """The keys of the header, without those of its tokenizer, which are long."""
    values = {
        key: field.contents()
        for key, field in reader.fields.items()
        if not key.startswith("tokenizer.")
    }
    return Described(title=str(path), values=values)


def _tensors(reader: "GGUFReader") -> Tensors:
    return Tensors(
        widths={tensor.name: int(tensor.n_elements) for tensor in reader.tensors},
        rows={tensor.name: int(tensor.shape[-1]) for tensor in reader.tensors},
    )


def _architecture(header: Described, tensors: Tensors, name: str) -> Architecture:
    kind = header.text("general.architecture")
    if kind not in FAMILIES:
        raise FactError(
            f"general.architecture of {header.title} is {kind or 'missing'}, expected one of "
            f"{', '.join(FAMILIES)}; describe the model in a facts file"
        )
    if not tensors.has("token_embd.weight"):
        raise FactError(
            f"{header.title} lacks the tensor token_embd.weight; is it the first part of a model "
            "that was split? Describe the model in a facts file"
        )
    hidden = header.integer(f"{kind}.embedding_length")
    heads = header.integer(f"{kind}.attention.head_count")
    layers = header.integer(f"{kind}.block_count")
    gated = tensors.has("blk.0.ffn_gate.weight") or kind == "phi3"
    window, window_layers = _window(header, kind, layers)
    latent = _latent(header, kind)
    experts = _experts(header, kind)
    return Architecture(
        name=name,
        family=FAMILIES[kind],
        kind=ModelKind.ENCODER if kind == "bert" else ModelKind.DECODER,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads
        if latent
        else header.integer(f"{kind}.attention.head_count_kv", default=heads),
        head_dim=latent.nope_dim
        if latent
        else header.integer(f"{kind}.attention.key_length", default=hidden // max(1, heads)),
        ffn=header.integer(f"{kind}.feed_forward_length"),
        gated=gated or experts is not None,
        vocab=tensors.rows["token_embd.weight"],
        tied=not tensors.has("output.weight"),
        positions=header.integer(f"{kind}.context_length"),
        position_rows=tensors.rows.get("position_embd.weight", 0),
        experts=experts,
        latent=latent,
        window=window,
        window_layers=window_layers,
        biases=_biases(tensors),
        norms=tensors.norms(hidden),
        qk_norm=tensors.has("blk.0.attn_q_norm.weight"),
        extra=tensors.outside,
        source=f"header of {header.title}",
    )


def _biases(tensors: Tensors) -> Biases:
    if tensors.has("blk.0.ffn_up.bias"):
        return Biases.ALL
    inputs = ("blk.0.attn_q.bias", "blk.0.attn_qkv.bias")
    return Biases.QKV if any(map(tensors.has, inputs)) else Biases.NONE


def _window(header: Described, kind: str, layers: int) -> tuple[int | None, int]:
    """Tokens of the window, and in how many layers."""
    window = header.integer(f"{kind}.attention.sliding_window", default=0)
    if not window:
        return None, 0
    key = f"{kind}.attention.sliding_window_pattern"
    pattern = header.values.get(key)
    if isinstance(pattern, list | tuple):
        sliding = sum(bool(one) for one in header.items(key))
    else:
        # 0 stands for a file in which every layer slides.
        every = header.integer(key, default=_WINDOW_PERIOD.get(kind, 0))
        sliding = layers - layers // every if every else layers
    return (window, sliding) if sliding else (None, 0)


def _experts(header: Described, kind: str) -> Experts | None:
    count = header.integer(f"{kind}.expert_count", default=0)
    if not count:
        return None
    ffn = header.integer(f"{kind}.expert_feed_forward_length", f"{kind}.feed_forward_length")
    shared_width = header.integer(f"{kind}.expert_shared_feed_forward_length", default=0)
    return Experts(
        count=count,
        active=header.integer(f"{kind}.expert_used_count"),
        ffn=ffn,
        shared=header.integer(f"{kind}.expert_shared_count", default=shared_width // max(1, ffn)),
        dense_layers=header.integer(f"{kind}.leading_dense_block_count", default=0),
    )


def _latent(header: Described, kind: str) -> LatentAttention | None:
    if not header.has(f"{kind}.attention.kv_lora_rank"):
        return None
    rope = header.integer(f"{kind}.rope.dimension_count")
    inside = f"{kind}.attention"
    return LatentAttention(
        kv_rank=header.integer(f"{inside}.kv_lora_rank"),
        q_rank=header.integer(f"{inside}.q_lora_rank", default=0),
        rope_dim=rope,
        # Files that keep the latent say the unfolded widths under keys of their own.
        nope_dim=header.integer(f"{inside}.key_length_mla", f"{inside}.key_length") - rope,
        v_dim=header.integer(f"{inside}.value_length_mla", f"{inside}.value_length"),
    )


def nearest_precision(bits: float) -> Precision:
    """The precision whose stored bits are nearest, as a ratio, to those of a weight."""
    kept = (Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4)
    return min(kept, key=lambda one: abs(math.log(bits / one.bits)))


def _precision(reader: "GGUFReader") -> Precision:
    """Of the layers' matrices; embedding, head and norms are often kept in more bits."""
    matrices = [
        one for one in reader.tensors if one.name.startswith("blk.") and len(one.shape) > 1
    ] or list(reader.tensors)
    elements = sum(int(one.n_elements) for one in matrices)
    found = nearest_precision(8 * sum(int(one.n_bytes) for one in matrices) / max(1, elements))
    if found is Precision.FP16 and any(one.tensor_type.name == "BF16" for one in matrices):
        return Precision.BF16
    return found
