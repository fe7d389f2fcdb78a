"""From what a user calls a model to its facts: a name, a file, or a checkpoint of the home."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec

from meted.domain.architecture import Architecture
from meted.domain.catalogue import UnknownFactError, lookup_architecture
from meted.domain.device_kind import Precision
from meted.live.checkpoints.builtin import SOURCE_PREFIX, locate
from meted.live.checkpoints.checkpoint import (
    DESCRIPTION,
    TRAINABLE,
    Checkpoint,
    CheckpointError,
    read_checkpoint,
)
from meted.live.checkpoints.registry import CheckpointRegistry
from meted.live.facts.config_json import architecture_from_config, weights_from_config
from meted.live.facts.errors import FactError
from meted.live.facts.facts_file import FactsFile
from meted.live.facts.gguf_header import nearest_precision, read_gguf_facts
from meted.live.home import Home

CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model as it was found. weights: as which it is kept there, None where nothing says so.
    weight_bytes: of the files, None where there are none."""

    architecture: Architecture
    weights: Precision | None = None
    weight_bytes: int | None = None


def resolve_model(
    text: str, *, home: Home | None = None, facts: FactsFile | None = None
) -> ModelFacts:
    """The model that a user means: a path to a config.json, a folder with one, or a .gguf file;
    a name from the facts file or the built-in ones; or a checkpoint of the home.

    Raises FactError with a sentence that says where it was looked for.
    """
    path = Path(text).expanduser()
    try:
        if path.is_file():
            return _from_file(path)
        if path.is_dir() and (found := _inside(path)) is not None:
            return found
        if path.suffix in (".gguf", ".json") or text.startswith((".", "/", "~")):
            raise FactError(
                f"{text} is no config.json, no .gguf file and no folder with one of them; give the "
                "path of one, or a model's name"
            )
        return _by_name(text, home, facts)
    except CheckpointError as error:
        raise FactError(str(error)) from error


def _by_name(text: str, home: Home | None, facts: FactsFile | None) -> ModelFacts:
    try:
        named = lookup_architecture(text, None if facts is None else facts.models)
        return ModelFacts(architecture=named)
    except UnknownFactError as error:
        if home is None:
            raise FactError(str(error)) from error
        registry = CheckpointRegistry(home.checkpoints)
        if registry.has(text):
            return facts_of_checkpoint(registry.get(text))
        raise FactError(f"{error}, or name a checkpoint of {home.folder}") from error


def facts_of_checkpoint(checkpoint: Checkpoint) -> ModelFacts:
    """The facts of a checkpoint of the home, its weights as the engine keeps them.

    Raises FactError if neither its folder nor its source describes it any more.
    """
    for folder in (checkpoint.folder, checkpoint.folder / TRAINABLE):
        if (folder / CONFIG).exists():
            architecture = _from_config(folder / CONFIG, checkpoint.name).architecture
            break
    else:
        architecture = replace(_from_source(checkpoint).architecture, name=checkpoint.name)
    return ModelFacts(
        architecture=architecture,
        weights=nearest_precision(8 * checkpoint.weight_bytes / max(1, checkpoint.parameters)),
        weight_bytes=checkpoint.weight_bytes,
    )


def _from_source(checkpoint: Checkpoint) -> ModelFacts:
    source = checkpoint.source
    if source.startswith(SOURCE_PREFIX):
        path = locate(source.removeprefix(SOURCE_PREFIX))
    else:
        path = Path(source)
    if path.is_file():
        return _from_file(path)
    found = _inside(path) if path.is_dir() else None
    if found is None:
        raise FactError(
            f"checkpoint {checkpoint.name!r} has no {CONFIG}, and its source {source} is gone; put "
            "it back, or describe the model in a facts file"
        )
    return found


def _inside(folder: Path) -> ModelFacts | None:
    """The model of a folder: a checkpoint, a config.json, or its only .gguf file."""
    if (folder / DESCRIPTION).exists():
        return facts_of_checkpoint(read_checkpoint(folder))
    if (folder / CONFIG).exists():
        return _from_config(folder / CONFIG, folder.resolve().name)
    files = sorted(folder.glob("*.gguf"))
    return _from_file(files[0]) if len(files) == 1 else None


def _from_file(path: Path) -> ModelFacts:
    if path.suffix != ".json":
        found = read_gguf_facts(path)
        return ModelFacts(
            architecture=found.architecture,
            weights=found.weights,
            weight_bytes=found.weight_bytes,
        )
    name = path.resolve().parent.name if path.name == CONFIG else path.stem
    return _from_config(path, name)


def _from_config(path: Path, name: str) -> ModelFacts:
    try:
        config: Any = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise FactError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise FactError(f"{path} holds {type(config).__name__}, expected an object")
    values = cast(dict[str, Any], config)
    return ModelFacts(
        architecture=architecture_from_config(values, name),
        weights=weights_from_config(values, name),
    )
