"""Folders that hold OpenVINO IR already: checked and taken over as they are."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.deployment import Task
from meted.live.checkpoints.checkpoint import MODEL, TOKENIZER_GGUF, CheckpointError
from meted.live.checkpoints.embedding import (
    SETTINGS,
    settings_of_sentence_transformer,
    write_settings,
)
from meted.live.checkpoints.facts import Progress, SourceFacts, last_line
from meted.live.checkpoints.hugging_face_source import CONTEXT_KEYS, COPIED
from meted.live.checkpoints.verify import verify_embedding, verify_generation

TOKENIZER_FILES = (
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    TOKENIZER_GGUF,
)


def inspect_openvino(folder: Path) -> SourceFacts:
    """What the folder holds. Raises CheckpointError if it cannot be served."""
    import openvino

    if not any((folder / name).exists() for name in ("openvino_tokenizer.xml", TOKENIZER_GGUF)):
        raise CheckpointError(
            f"{folder} has no openvino_tokenizer.xml; convert its tokenizer with "
            "openvino_tokenizers, or give the Hugging Face folder instead"
        )
    config = _config(folder)
    contexts = [config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)]
    if not contexts:
        raise CheckpointError(
            f"{folder / 'config.json'} does not say the context length; add max_position_embeddings"
        )
    try:
        model: Any = openvino.Core().read_model(str(folder / MODEL))
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder / MODEL} cannot be read: {last_line(error)}; fetch it again"
        ) from error
    outputs = {name for output in model.outputs for name in output.get_names()}
    if "logits" not in outputs and "last_hidden_state" not in outputs:
        raise CheckpointError(
            f"{folder / MODEL} gives {', '.join(sorted(outputs))}, expected logits or "
            "last_hidden_state; export it for text-generation-with-past or feature-extraction"
        )
    return SourceFacts(
        task=Task.GENERATE if "logits" in outputs else Task.EMBED,
        architecture=str(config.get("model_type", "unknown")),
        context_tokens=contexts[0],
        parameters=_count_parameters(model),
    )


def convert_openvino(folder: Path, out: Path, task: Task, progress: Progress) -> None:
    """Copy the folder's files into `out` and try them out."""
    progress("copying")
    for name in (MODEL, str(Path(MODEL).with_suffix(".bin")), *TOKENIZER_FILES, *COPIED, SETTINGS):
        if (folder / name).exists():
            link_or_copy(folder / name, out / name)
    progress("trying it out")
    if task is Task.EMBED:
        if not (out / SETTINGS).exists():
            write_settings(out, settings_of_sentence_transformer(folder))
        verify_embedding(out, source=folder)
    else:
        verify_generation(out, source=folder)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A second name for the same bytes where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _count_parameters(model: Any) -> int:
    """Elements of the weight matrices; scales and zero points of quantisation are left out."""
    total = 0
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            shape = [int(size) for size in node.get_output_shape(0)]
            if len(shape) > 1 and shape[-1] > 1:
                count = 1
                for size in shape:
                    count *= size
                total += count
    return total


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; put the model's config.json beside its IR"
        ) from error
