"""A checkpoint's description: what `checkpoint.json` in its folder says."""

import filecmp
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from meted.domain.deployment import Task
from meted.domain.variant import LineageStep
from meted.live.checkpoints.lineage import StepOnDisk, decode_lineage, encode_lineage
from meted.live.checkpoints.quality import Quality

DESCRIPTION = "checkpoint.json"
MODEL = "openvino_model.xml"
GGUF_MODEL = "model.gguf"
"""The weights of a checkpoint for llama.cpp, which has no MODEL."""
TOKENIZER_GGUF = "tokenizer.gguf"
TRAINABLE = "hf"


class CheckpointError(Exception):
    """A checkpoint cannot be had: which file, what was found, what was expected, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights by name, converted for the engine.

    source: where the weights came from. base: the checkpoint it was trained from. created: Unix
    seconds. held_out: losses in nats per token by moment (before, after, converted). lineage: all
    that was done since the weights came in, oldest first. quality: measured against the parent.
    """

    name: str
    task: Task
    folder: Path
    architecture: str
    context_tokens: int
    parameters: int
    weight_bytes: int
    source: str
    base: str | None = None
    created: int
    held_out: dict[str, float] = field(default_factory=dict[str, float])
    lineage: tuple[LineageStep, ...] = ()
    quality: Quality | None = None


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`Checkpoint` as it stands on disk; its name and folder are where it stands."""

    task: Task
    architecture: str
    context_tokens: int
    parameters: int
    weight_bytes: int
    source: str
    base: str | None
    created: int
    held_out: dict[str, float]
    lineage: tuple[StepOnDisk, ...] = ()
    quality: Quality | None = None


def write_description(folder: Path, description: Description) -> None:
    """Describe the checkpoint in `folder`."""
    body = msgspec.json.format(msgspec.json.encode(description), indent=2)
    (folder / DESCRIPTION).write_bytes(body + b"\n")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`. Raises CheckpointError if its description cannot be read."""
    path = folder / DESCRIPTION
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Description)
        lineage = decode_lineage(found.lineage)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; remove {folder} and import the checkpoint again"
        ) from error
    return Checkpoint(
        name=folder.name,
        task=found.task,
        folder=folder,
        architecture=found.architecture,
        context_tokens=found.context_tokens,
        parameters=found.parameters,
        weight_bytes=found.weight_bytes,
        source=found.source,
        base=found.base,
        created=found.created,
        held_out=found.held_out,
        lineage=lineage,
        quality=found.quality,
    )


def rewrite_description(checkpoint: Checkpoint) -> None:
    """Write what is known of a checkpoint anew; its folder never lacks a description."""
    with tempfile.TemporaryDirectory(dir=checkpoint.folder) as folder:
        write_description(Path(folder), describe(checkpoint))
        (Path(folder) / DESCRIPTION).replace(checkpoint.folder / DESCRIPTION)


def describe(checkpoint: Checkpoint) -> Description:
    """A checkpoint as it stands on disk."""
    return Description(
        task=checkpoint.task,
        architecture=checkpoint.architecture,
        context_tokens=checkpoint.context_tokens,
        parameters=checkpoint.parameters,
        weight_bytes=checkpoint.weight_bytes,
        source=checkpoint.source,
        base=checkpoint.base,
        created=checkpoint.created,
        held_out=checkpoint.held_out,
        lineage=encode_lineage(checkpoint.lineage),
        quality=checkpoint.quality,
    )


def weight_bytes(folder: Path) -> int:
    """Bytes of a checkpoint's weights as they are served."""
    return _weights(folder).stat().st_size


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints are served from the same bytes."""
    first, second = _weights(one), _weights(other)
    return first.name == second.name and filecmp.cmp(first, second, shallow=False)


def _weights(folder: Path) -> Path:
    gguf = folder / GGUF_MODEL
    return gguf if gguf.exists() else (folder / MODEL).with_suffix(".bin")
