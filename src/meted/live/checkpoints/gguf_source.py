"""GGUF files: checked, re-quantised once where that serves better, and turned into OpenVINO IR."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from meted.domain.deployment import Task
from meted.live.checkpoints.checkpoint import MODEL, TOKENIZER_GGUF, CheckpointError
from meted.live.checkpoints.facts import Progress, SourceFacts, last_line
from meted.live.checkpoints.verify import verify_generation

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""What OpenVINO GenAI builds from GGUF (its `create_from_gguf`)."""
FILE_TYPE_Q8_0 = 7
KEPT_TYPES = frozenset({"F32", "F16", "Q8_0"})
"""OpenVINO keeps these as they are. The others lose quality or speed there: of SmolLM2-135M the
shipped Q4_1 has perplexity 29.0, re-quantised to Q8_0 23.7 (GPL-3 text, 2 AVX-512 cores)."""
Q8_0_BLOCK = 32
TOKENIZER_LIMIT = 8192
"""The engine's tokenizer cuts every text here when it comes from a GGUF file, whatever it is told
(OpenVINO GenAI 2026.4), so no longer context can be offered."""


def read_gguf(path: Path) -> "GGUFReader":
    """The file's header and tensors, mapped. Raises CheckpointError if it is no whole GGUF."""
    with path.open("rb") as file:
        head = file.read(24)
    if head[:4] != MAGIC:
        raise CheckpointError(
            f"{path} begins with {head[:4]!r}, expected {MAGIC!r}: it is no GGUF file; "
            "give a GGUF file, a Hugging Face folder or an OpenVINO folder"
        )
    if len(head) < 24 or struct.unpack("<I", head[4:8])[0] not in VERSIONS:
        raise CheckpointError(f"{path} is no GGUF of version 2 or 3; convert or fetch it again")
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError, UnicodeError) as error:
        raise CheckpointError(
            f"{path} ends after {path.stat().st_size} bytes, before its last tensor, or is "
            f"damaged ({last_line(error)}); fetch it again"
        ) from error


def inspect_gguf(path: Path) -> SourceFacts:
    """What the file holds. Raises CheckpointError if it cannot be served."""
    reader = read_gguf(path)
    architecture = str(_value(reader, "general.architecture", path))
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path} has the architecture {architecture!r}, expected one of "
            f"{', '.join(ARCHITECTURES)} in a GGUF; take the model's Hugging Face folder instead"
        )
    experts = reader.get_field(f"{architecture}.expert_count")
    if experts is not None and int(experts.contents()) > 0:
        raise CheckpointError(
            f"{path} is a mixture of {experts.contents()} experts, which cannot be served from a "
            "GGUF; take the model's Hugging Face folder instead"
        )
    context = int(_value(reader, f"{architecture}.context_length", path))
    return SourceFacts(
        task=Task.GENERATE,
        architecture=architecture,
        context_tokens=min(context, TOKENIZER_LIMIT),
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
    )


def served_bytes(path: Path) -> int:
    """Bytes of the weights once they are loaded, all types but the kept ones as Q8_0."""
    return sum(
        int(
            tensor.n_bytes if tensor.tensor_type.name in KEPT_TYPES else tensor.n_elements * 17 / 16
        )
        for tensor in read_gguf(path).tensors
    )


def convert_gguf(path: Path, out: Path, progress: Progress) -> None:
    """Write the served form into the folder `out`: OpenVINO IR, tokenizer, generation settings."""
    reader = read_gguf(path)
    _write_tokenizer(reader, out / TOKENIZER_GGUF)
    _write_generation_config(reader, out)
    # OpenVINO writes its IR beside the GGUF that it loads, so this must lie in `out`.
    weights = out / "weights.gguf"
    poor = [one for one in reader.tensors if one.tensor_type.name not in KEPT_TYPES]
    if poor:
        progress(f"re-quantising {len(poor)} tensors to Q8_0")
        _requantise(reader, weights)
    else:
        weights.symlink_to(path.absolute())
    progress("converting for OpenVINO")
    verify_generation(weights, source=path, gguf=True)
    weights.unlink()
    if not (out / MODEL).exists():
        raise CheckpointError(f"OpenVINO wrote no {MODEL} for {path}; is {out} on a full disk?")


def gguf_to_hugging_face(path: Path, out: Path) -> None:
    """Write a GGUF's weights, in float32, as a Hugging Face folder without tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        network: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
        )
    except Exception as error:  # transformers raises errors of many kinds here.
        raise CheckpointError(
            f"{path} cannot be turned into a network to train: {last_line(error)}; import the "
            "model's Hugging Face folder and train that"
        ) from error
    network.save_pretrained(out, safe_serialization=True)


def _value(reader: "GGUFReader", key: str, path: Path) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise CheckpointError(f"{path} lacks the key {key!r}; convert it again with a current tool")
    return field.contents()


def gguf_writer(
    reader: "GGUFReader", path: Path, *, changed: Mapping[str, int] | None = None
) -> "GGUFWriter":
    """A writer with all keys of the reader, of which some are changed or added."""
    from gguf import GGUFValueType, GGUFWriter

    changed = changed or {}
    writer = GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in changed:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=inner)
    for key, value in changed.items():
        writer.add_uint32(key, value)
    return writer


def _write_tokenizer(reader: "GGUFReader", path: Path) -> None:
    writer = gguf_writer(reader, path)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def _write_generation_config(reader: "GGUFReader", out: Path) -> None:
    """Which tokens end an answer; the engine reads it as from any Hugging Face folder."""
    ends: list[int] = []
    for key in ("eos_token_id", "eot_token_id", "eom_token_id"):
        field = reader.get_field(f"tokenizer.ggml.{key}")
        if field is not None and int(field.contents()) not in ends:
            ends.append(int(field.contents()))
    if ends:
        body = msgspec.json.encode({"eos_token_id": ends})
        (out / "generation_config.json").write_bytes(body)


def _requantise(reader: "GGUFReader", path: Path) -> None:
    """Write the file anew with every tensor that is not of a kept type as Q8_0.

    One tensor at a time is in memory.
    """
    import numpy as np
    from gguf import GGMLQuantizationType as Type
    from gguf.quants import dequantize, quantize

    writer = gguf_writer(reader, path, changed={"general.file_type": FILE_TYPE_Q8_0})
    targets: list[tuple[Any, Any]] = []
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        target, size = tensor.tensor_type, int(tensor.n_bytes)
        if target.name not in KEPT_TYPES:
            blocks = shape[-1] % Q8_0_BLOCK == 0
            target = Type.Q8_0 if blocks else Type.F16
            size = int(tensor.n_elements) * 34 // 32 if blocks else int(tensor.n_elements) * 2
        # The writer takes the type from raw_dtype; the other one only says "not in bytes".
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, raw_dtype=target)
        targets.append((tensor, target))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, target in targets:
        data = tensor.data
        if target != tensor.tensor_type:
            try:
                data = quantize(dequantize(data, tensor.tensor_type), target)
            except NotImplementedError as error:
                raise CheckpointError(
                    f"tensor {tensor.name!r} is of the type {tensor.tensor_type.name}, which "
                    "cannot be read; take the model in Q8_0, F16 or a K-quant"
                ) from error
        writer.write_tensor_data(data)
    writer.close()
