"""All checkpoints of a house, one folder each: a folder is whole, or it does not exist."""

import re
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.deployment import Task
from meted.domain.variant import LineageStep, Transformation
from meted.live.checkpoints.builtin import BUILTINS, SOURCE_PREFIX, locate
from meted.live.checkpoints.checkpoint import (
    DESCRIPTION,
    MODEL,
    TRAINABLE,
    Checkpoint,
    CheckpointError,
    describe,
    read_checkpoint,
    weight_bytes,
    write_description,
)
from meted.live.checkpoints.facts import Progress, SourceFacts, silent
from meted.live.checkpoints.making import install, workplace
from meted.live.checkpoints.memory import check_memory
from meted.live.checkpoints.quality import Quality

VARIANT_PREFIX = "variant:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class CheckpointRegistry:
    """Checkpoints under a folder, by name. Cheap to make and to list; conversions are heavy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the checkpoints are, a folder each."""
        return self._folder

    def list(self) -> list[Checkpoint]:
        """All checkpoints by name. Raises CheckpointError if one cannot be read."""
        if not self._folder.exists():
            return []
        return [
            read_checkpoint(path.parent)
            for path in sorted(self._folder.glob(f"*/{DESCRIPTION}"))
            if not path.parent.name.startswith(".")
        ]

    def has(self, name: str) -> bool:
        """Whether the checkpoint is on disk."""
        return NAME.fullmatch(name) is not None and (self._folder / name / DESCRIPTION).exists()

    def get(self, name: str) -> Checkpoint:
        """The checkpoint. Raises CheckpointError, naming those that exist, if there is none."""
        if not self.has(name):
            known = sorted({*(one.name for one in self.list()), *BUILTINS})
            raise CheckpointError(
                f"there is no checkpoint {name!r}; there are: {', '.join(known)}; import another "
                "from a GGUF file, a Hugging Face folder or an OpenVINO folder by its path"
            )
        return read_checkpoint(self._folder / name)

    def ensure_builtin(self, name: str, progress: Progress | None = None) -> Checkpoint:
        """The built-in checkpoint, imported now if it is not yet on disk."""
        if self.has(name):
            return self.get(name)
        if name not in BUILTINS:
            raise CheckpointError(
                f"{name!r} is not built in; built in are: {', '.join(sorted(BUILTINS))}; import "
                "others by their path"
            )
        source = f"{SOURCE_PREFIX}{name}"
        sampling = BUILTINS[name].sampling
        return self._import(name, locate(name), source, progress or silent, sampling)

    def import_path(self, name: str, path: Path, progress: Progress | None = None) -> Checkpoint:
        """Import a GGUF file, a Hugging Face folder or an OpenVINO folder under a name.

        Raises CheckpointError, before anything is loaded, if it is missing, damaged, of an
        unsupported architecture, or too large for the memory that is free.
        """
        path = path.expanduser().absolute()
        return self._import(name, path, str(path), progress or silent)

    def register_trained(
        self,
        *,
        name: str,
        base: Checkpoint,
        hf_folder: Path,
        held_out: dict[str, float],
        done: Transformation | None = None,
        progress: Progress | None = None,
    ) -> Checkpoint:
        """Convert a trained Hugging Face folder; the tokenizer is the base's own. done: what the
        training was, for the lineage.

        The folder's files stay reachable, by hard links where possible, for further training.
        """
        from meted.live.checkpoints.reshaped import convert_reshaped

        self.check_free(name)
        with self._making(name) as out:
            facts = convert_reshaped(hf_folder, out, base, progress or silent)
            write_description(
                out,
                describe(
                    replace(
                        _described(out, facts, f"trained:{base.name}"),
                        base=base.name,
                        held_out=held_out,
                        lineage=_extended(base, done),
                    )
                ),
            )
        return self.get(name)

    def register_variant(
        self,
        *,
        name: str,
        parent: Checkpoint,
        made: Path,
        facts: SourceFacts,
        done: Transformation,
        quality: Quality,
    ) -> Checkpoint:
        """Take in the folder `made` (a workplace's) that holds a measured variant of `parent`."""
        self.check_free(name)
        variant = replace(
            _described(made, facts, f"{VARIANT_PREFIX}{parent.name}"),
            base=parent.name,
            lineage=_extended(parent, done),
            quality=quality,
        )
        write_description(made, describe(variant))
        install(made, self._folder / name)
        return self.get(name)

    def workplace(self) -> AbstractContextManager[Path]:
        """An empty folder in which a variant is made; what is not taken in is deleted."""
        return workplace(self._folder)

    def remove(self, name: str) -> None:
        """Delete a checkpoint. What was trained from it keeps its own files."""
        self.get(name)
        with workplace(self._folder) as doomed:
            (self._folder / name).rename(doomed / name)

    def trainable_folder(self, name: str) -> Path:
        """A Hugging Face folder (float32 safetensors and config.json) of the checkpoint's weights,
        made from its original source when it is first asked for.

        Raises CheckpointError if the source is gone or cannot be trained.
        """
        checkpoint = self.get(name)
        made = checkpoint.folder / TRAINABLE
        if made.exists():
            return made
        source = checkpoint.source
        if source.startswith(VARIANT_PREFIX):
            raise CheckpointError(
                f"{name!r} is a variant of {checkpoint.base!r} whose weights are rounded; train or "
                f"transform {checkpoint.base!r} instead"
            )
        if source.startswith(SOURCE_PREFIX):
            path = locate(source.removeprefix(SOURCE_PREFIX))
        else:
            path = Path(source)
        if checkpoint.task is not Task.GENERATE:
            raise CheckpointError(
                f"{name!r} is for {checkpoint.task}; only checkpoints that generate are trained"
            )
        if not path.exists():
            raise CheckpointError(
                f"{name!r} was imported from {path}, which is gone; put it back to train on it"
            )
        if path.is_dir():
            if (path / MODEL).exists() and not any(path.glob("*.safetensors")):
                raise CheckpointError(
                    f"{name!r} was imported as OpenVINO IR, which cannot be trained; import the "
                    "model's Hugging Face folder or GGUF file instead"
                )
            return path
        from meted.live.checkpoints.gguf_source import gguf_to_hugging_face

        with self._making(name, TRAINABLE) as out:
            gguf_to_hugging_face(path, out)
        return made

    def _import(
        self,
        name: str,
        path: Path,
        source: str,
        progress: Progress,
        sampling: dict[str, float] | None = None,
    ) -> Checkpoint:
        self.check_free(name)
        if not path.exists():
            raise CheckpointError(f"{path} does not exist; give a file or folder that does")
        progress("checking")
        facts, convert = _examine(path, progress)
        with self._making(name) as out:
            convert(out)
            if sampling:
                recommend(out, sampling)
            write_description(out, describe(_described(out, facts, source)))
        return self.get(name)

    def check_free(self, name: str) -> None:
        """Raises CheckpointError if a new checkpoint cannot have this name."""
        if NAME.fullmatch(name) is None:
            raise CheckpointError(
                f"the name {name!r} is not usable; use letters, digits, '.', '_' and '-', at most "
                "128, a letter or digit first"
            )
        if (self._folder / name).exists():
            raise CheckpointError(
                f"a checkpoint named {name!r} exists already; remove it or choose another name"
            )

    @contextmanager
    def _making(self, *parts: str) -> Generator[Path]:
        """A folder that appears whole under its name when the block ends, or never."""
        with workplace(self._folder) as out:
            yield out
            install(out, self._folder.joinpath(*parts))


def recommend(folder: Path, sampling: dict[str, float]) -> None:
    """Add recommended sampling to a checkpoint's generation_config.json."""
    path = folder / "generation_config.json"
    found = path.read_bytes() if path.exists() else b"{}"
    known = msgspec.json.decode(found, type=dict[str, Any])
    path.write_bytes(msgspec.json.encode({**known, **sampling}))


def _described(out: Path, facts: SourceFacts, source: str) -> Checkpoint:
    return Checkpoint(
        name=out.name,
        task=facts.task,
        folder=out,
        architecture=facts.architecture,
        context_tokens=facts.context_tokens,
        parameters=facts.parameters,
        weight_bytes=weight_bytes(out),
        source=source,
        created=int(time.time()),
    )


def _extended(parent: Checkpoint, done: Transformation | None) -> tuple[LineageStep, ...]:
    step = () if done is None else (LineageStep(parent=parent.name, transformation=done),)
    return (*parent.lineage, *step)


def _examine(path: Path, progress: Progress) -> tuple[SourceFacts, Callable[[Path], None]]:
    """Which kind of source this is, what it holds, and how it is converted."""
    if path.is_file():
        from meted.live.checkpoints import gguf_source

        facts = gguf_source.inspect_gguf(path)
        check_memory(path, weight_bytes=gguf_source.served_bytes(path))
        return facts, lambda out: gguf_source.convert_gguf(path, out, progress)
    if (path / MODEL).exists():
        from meted.live.checkpoints import openvino_source

        check_memory(path, weight_bytes=(path / MODEL).with_suffix(".bin").stat().st_size)
        facts = openvino_source.inspect_openvino(path)
        task = facts.task
        return facts, lambda out: openvino_source.convert_openvino(path, out, task, progress)
    if not (path / "config.json").exists():
        raise CheckpointError(
            f"{path} holds neither {MODEL} nor config.json; give a GGUF file, a Hugging Face "
            "folder or an OpenVINO folder"
        )
    from meted.live.checkpoints import hugging_face_source as hugging_face

    facts = hugging_face.inspect_hugging_face(path)
    needed = facts.parameters * hugging_face.EXPORT_BYTES_PER_PARAMETER
    check_memory(path, weight_bytes=needed)
    task = facts.task
    return facts, lambda out: hugging_face.convert_hugging_face(path, out, task, progress)
