"""Weights for llama.cpp: a network's float weights, quantised by the gguf package into model.gguf.

Names and order of rows are llama.cpp's own; keys and tokenizer come from the GGUF file by which the
checkpoint once came in.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from meted.domain.variant import GgufType
from meted.live.checkpoints.checkpoint import GGUF_MODEL, TOKENIZER_GGUF, CheckpointError
from meted.live.checkpoints.gguf_source import gguf_writer, read_gguf

BLOCK = 32
OUTPUT_NAMES = ("output.weight", "token_embd.weight")
"""Errors here go into every token, so that fewer than 8 bits would be a poor bargain."""
ROTATED = ("attn_q.weight", "attn_k.weight")
"""In Llama files the rows of these are in the order in which llama.cpp rotates pairs."""


def write_gguf(hf_folder: Path, base_folder: Path, type: GgufType, out: Path) -> None:
    """Write `out`/model.gguf from the network in `hf_folder`.

    Raises CheckpointError if the base has no GGUF keys, or the network is no longer as they say.
    """
    from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, LlamaFileType, get_tensor_name_map
    from gguf.quants import quantize

    keys = base_folder / TOKENIZER_GGUF
    if not keys.exists():
        raise CheckpointError(
            f"{base_folder} did not come from a GGUF file, whose tokenizer a new one needs; take "
            "an OpenVINO lever (int8, int4-g64, ...), or import the model's GGUF file"
        )
    reader = read_gguf(keys)
    architecture = str(reader.fields["general.architecture"].contents())
    kind = next(one for one, name in MODEL_ARCH_NAMES.items() if name == architecture)
    network = _network(hf_folder)
    config: Any = network.config
    file_type = LlamaFileType[f"MOSTLY_{type.name}"]
    writer = gguf_writer(
        reader,
        out / GGUF_MODEL,
        changed={"general.file_type": int(file_type), **_shape(architecture, config)},
    )
    names = get_tensor_name_map(kind, config.num_hidden_layers)
    for name, weight in _weights(network):
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if written is None:
            raise CheckpointError(
                f"{hf_folder} has a tensor {name!r}, for which llama.cpp's {architecture} has no "
                "name; take an OpenVINO lever instead"
            )
        if architecture == "llama" and written.endswith(ROTATED):
            weight = _rotated(weight, config, keys=written.endswith(ROTATED[1]))
        target = GGMLQuantizationType[_type_of(written, weight, type)]
        writer.add_tensor(written, quantize(weight, target), raw_dtype=target)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _network(hf_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        hf_folder, dtype=torch.float32, local_files_only=True
    )


def _weights(network: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each weight once: an output matrix that is the embedding has no tensor of its own."""
    tied = bool(network.config.tie_word_embeddings)
    for name, weight in network.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            yield name, weight.detach().numpy()


def _type_of(name: str, weight: NDArray[np.float32], type: GgufType) -> str:
    if weight.ndim == 1:
        return "F32"
    if weight.shape[-1] % BLOCK and type not in (GgufType.F16, GgufType.BF16):
        return "F16"
    small = type in (GgufType.Q5_1, GgufType.Q5_0, GgufType.Q4_1, GgufType.Q4_0)
    return "Q8_0" if small and name in OUTPUT_NAMES else type.name


def _shape(architecture: str, config: Any) -> dict[str, int]:
    """The keys that pruning changes, and what llama.cpp would else derive from them."""
    head = int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return {
        f"{architecture}.block_count": int(config.num_hidden_layers),
        f"{architecture}.feed_forward_length": int(config.intermediate_size),
        f"{architecture}.attention.head_count": int(config.num_attention_heads),
        f"{architecture}.attention.head_count_kv": int(config.num_key_value_heads),
        f"{architecture}.attention.key_length": head,
        f"{architecture}.attention.value_length": head,
    }


def _rotated(weight: NDArray[np.float32], config: Any, *, keys: bool) -> NDArray[np.float32]:
    """Rows of halves (as in Hugging Face) into rows of pairs, head by head."""
    heads = int(config.num_key_value_heads if keys else config.num_attention_heads)
    halves = weight.reshape(heads, 2, len(weight) // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)
