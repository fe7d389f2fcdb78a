"""A checkpoint's description: what `checkpoint.json` in its folder says."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from meted.domain.deployment import Task

DESCRIPTION = "checkpoint.json"
MODEL = "openvino_model.xml"
TOKENIZER_GGUF = "tokenizer.gguf"
TRAINABLE = "hf"


class CheckpointError(Exception):
    """A checkpoint cannot be had: which file, what was found, what was expected, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights by name, converted for the engine.

    source: where the weights came from. base: the checkpoint it was trained from. created: Unix
    seconds. held_out: losses in nats per token by moment (before, after, converted).
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


def write_description(folder: Path, description: Description) -> None:
    """Describe the checkpoint in `folder`."""
    body = msgspec.json.format(msgspec.json.encode(description), indent=2)
    (folder / DESCRIPTION).write_bytes(body + b"\n")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`. Raises CheckpointError if its description cannot be read."""
    path = folder / DESCRIPTION
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError) as error:
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
    )
