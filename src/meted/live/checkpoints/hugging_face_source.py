"""Hugging Face folders: checked without loading them, then exported by optimum to OpenVINO IR."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportUnknownParameterType=false

import importlib
import shutil
import struct
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.deployment import Task
from meted.live.checkpoints.checkpoint import CheckpointError
from meted.live.checkpoints.embedding import settings_of_sentence_transformer, write_settings
from meted.live.checkpoints.facts import Progress, SourceFacts, last_line
from meted.live.checkpoints.verify import verify_embedding, verify_generation

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OPTIMUM_TASKS = {Task.GENERATE: "text-generation-with-past", Task.EMBED: "feature-extraction"}
EXPORT_BYTES_PER_PARAMETER = 10
"""Measured 1.30 GB at the peak for 135 million parameters, of which the libraries are 0.5 GB;
rounded up (2 AVX-512 cores, November 2026)."""
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)


def inspect_hugging_face(folder: Path) -> SourceFacts:
    """What the folder holds. Raises CheckpointError if it cannot be served."""
    config = _read_mapping(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise CheckpointError(
            f"{folder / 'config.json'} names no model_type; give a Hugging Face model folder"
        )
    task = _task(folder, config)
    supported = _exportable(task)
    if kind not in supported:
        raise CheckpointError(
            f"{folder} has the architecture {kind!r}, expected one of "
            f"{', '.join(sorted(supported))} for {task}; take another model"
        )
    contexts = [config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)]
    if not contexts:
        raise CheckpointError(
            f"{folder / 'config.json'} does not say the context length; add max_position_embeddings"
        )
    return SourceFacts(
        task=task,
        architecture=kind,
        context_tokens=contexts[0],
        parameters=sum(count_parameters(path) for path in weight_files(folder)),
    )


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files. Raises CheckpointError if one is missing."""
    names = [SINGLE]
    if (folder / INDEX).exists():
        shards: Any = _read_mapping(folder / INDEX).get("weight_map", {})
        names = sorted(set(shards.values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing or not names:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing) or 'weights'}; fetch it again, and convert .bin "
            "weights to safetensors first"
        )
    return [folder / name for name in names]


def count_parameters(path: Path) -> int:
    """Numbers in a safetensors file, by its header. Raises CheckpointError if it is not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        body = file.read(length) if length < size else b""
    try:
        header = msgspec.json.decode(body, type=dict[str, Any])
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        end = max((int(one["data_offsets"][1]) for one in tensors), default=0)
        counts = [_product(one["shape"]) for one in tensors]
    except (msgspec.DecodeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path} has no readable safetensors header; fetch it again"
        ) from error
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path} has {size} bytes, expected {8 + length + end}: it is truncated or damaged; "
            "fetch it again"
        )
    return sum(counts)


def convert_hugging_face(folder: Path, out: Path, task: Task, progress: Progress) -> None:
    """Write the served form into `out`: OpenVINO IR, tokenizer, and the small files beside it."""
    progress("exporting to OpenVINO")
    export(folder, out, task)
    progress("converting the tokenizer")
    convert_tokenizer(folder, out)
    _copy_small(folder, out)
    progress("trying it out")
    if task is Task.EMBED:
        write_settings(out, settings_of_sentence_transformer(folder))
        verify_embedding(out, source=folder)
    else:
        verify_generation(out, source=folder)


def export(folder: Path, out: Path, task: Task) -> None:
    """Write OpenVINO IR: 8-bit weights for generation (int8, asymmetric, per channel), float for
    encoders, whose weights are small."""
    import logging

    import nncf
    from optimum.intel import (
        OVModelForCausalLM,
        OVModelForFeatureExtraction,
        OVWeightQuantizationConfig,
    )

    nncf.set_log_level(logging.ERROR)
    more: dict[str, Any] = {"export": True, "compile": False, "local_files_only": True}
    try:
        if task is Task.GENERATE:
            quantised = OVWeightQuantizationConfig(bits=8)
            model: Any = OVModelForCausalLM.from_pretrained(
                str(folder), quantization_config=quantised, **more
            )
        else:
            model = OVModelForFeatureExtraction.from_pretrained(
                str(folder), load_in_8bit=False, **more
            )
        model.save_pretrained(str(out))
    except Exception as error:  # The libraries raise errors of many kinds here.
        raise CheckpointError(
            f"{folder} cannot be exported to OpenVINO: {last_line(error)}; take another model"
        ) from error


def convert_tokenizer(folder: Path, out: Path) -> None:
    """Write the folder's tokenizer, with its chat template, as the engine reads it."""
    import openvino
    from openvino_tokenizers import convert_tokenizer as convert
    from openvino_tokenizers.constants import UTF8ReplaceMode
    from transformers import AutoTokenizer

    try:
        source: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        models: Any = convert(
            source, with_detokenizer=True, utf8_replace_mode=UTF8ReplaceMode("ignore")
        )
    except Exception as error:  # As above.
        raise CheckpointError(
            f"the tokenizer of {folder} cannot be converted: {last_line(error)}; add its "
            "tokenizer.json or take another model"
        ) from error
    for model, name in zip(models, ("openvino_tokenizer", "openvino_detokenizer"), strict=True):
        openvino.save_model(model, str(out / f"{name}.xml"))


def _copy_small(folder: Path, out: Path) -> None:
    for name in COPIED:
        if (folder / name).exists() and not (out / name).exists():
            shutil.copyfile(folder / name, out / name)


def _task(folder: Path, config: dict[str, Any]) -> Task:
    names = [str(name) for name in config.get("architectures") or []]
    if (folder / "modules.json").exists():
        return Task.EMBED
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return Task.GENERATE
    if any(name.endswith(("Model", "ForMaskedLM")) for name in names):
        return Task.EMBED
    raise CheckpointError(
        f"{folder / 'config.json'} names the architectures {names}, expected one that generates "
        "text (...ForCausalLM) or encodes it (...Model); take another model"
    )


def _exportable(task: Task) -> set[str]:
    from optimum.exporters.tasks import TasksManager

    importlib.import_module("optimum.exporters.openvino")  # It registers its architectures.

    found: Any = TasksManager.get_supported_model_type_for_task(
        OPTIMUM_TASKS[task], exporter="openvino"
    )
    return set(found)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; fetch it again") from error


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= int(size)
    return total
