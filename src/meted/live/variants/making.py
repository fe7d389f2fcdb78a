"""One transformation of one checkpoint, into a folder that could be served."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from meted.domain.variant import (
    Distil,
    ExportFloat,
    FineTune,
    PruneHeads,
    PruneLayers,
    PruneNeurons,
    Quantise,
    QuantiseGguf,
    Repair,
    Reshaping,
    Transformation,
)
from meted.live.checkpoints import Checkpoint, CheckpointError, CheckpointRegistry
from meted.live.checkpoints.facts import SourceFacts, silent
from meted.live.checkpoints.openvino_source import link_or_copy
from meted.live.checkpoints.reshaped import convert_reshaped, take_over_tokenizer
from meted.live.checkpoints.verify import verify_generation
from meted.live.training.data import Ids
from meted.live.variants.gguf_weights import write_gguf
from meted.live.variants.openvino_weights import export_float, quantise
from meted.live.variants.prune import prune
from meted.live.variants.repair import distil, repair

Begin = Callable[[str, int], Callable[[], None]]
"""Told what begins and in how many parts; gives back what to call after each."""


class Maker:
    """Makes variants, and keeps the float export that several of one parent are made from."""

    def __init__(
        self, *, registry: CheckpointRegistry, text: Ids, scratch: Path, begin: Begin
    ) -> None:
        self._registry = registry
        self._text = text
        self._scratch = scratch
        self._begin = begin

    def make(self, parent: Checkpoint, how: Transformation, out: Path) -> SourceFacts:
        """Write the variant's served form into `out`. Raises CheckpointError if that cannot be."""
        match how:
            case ExportFloat():
                self._begin(f"exporting in {how.type}", 1)
                export_float(self._trainable(parent), out, type=how.type)
                return self._finish(parent, out)
            case Quantise():
                source = self._float(parent)
                self._begin(f"quantising to {how.type}", 1)
                quantise(source, how, out, self._text)
                link_or_copy(source / "config.json", out / "config.json")
                return self._finish(parent, out)
            case QuantiseGguf():
                self._begin(f"quantising to GGUF {how.type}", 1)
                write_gguf(self._trainable(parent), parent.folder, how.type, out)
                take_over_tokenizer(parent, out)
                return _same_facts(parent)
            case PruneLayers() | PruneHeads() | PruneNeurons() | Distil():
                with self._reshaped(parent, how) as folder:
                    return convert_reshaped(folder, out, parent, silent)
            case FineTune():
                raise CheckpointError("a fine-tune is a job of its own; start it by `meted train`")
            case _:
                assert_never(how)

    def _finish(self, parent: Checkpoint, out: Path) -> SourceFacts:
        take_over_tokenizer(parent, out)
        verify_generation(out, source=out)
        return _same_facts(parent)

    def _trainable(self, parent: Checkpoint) -> Path:
        return self._registry.trainable_folder(parent.name)

    def _float(self, parent: Checkpoint) -> Path:
        made = self._scratch / f"{parent.name}.float32"
        if not made.exists():
            self._begin("exporting in float32", 1)
            made.mkdir()
            export_float(self._trainable(parent), made)
        return made

    @contextmanager
    def _reshaped(self, parent: Checkpoint, how: Reshaping) -> Generator[Path]:
        """The Hugging Face folder of the network after `how`, as long as the block lasts."""
        source = self._trainable(parent)
        with tempfile.TemporaryDirectory(dir=self._scratch) as work:
            cut, done = Path(work) / "cut", Path(work) / "done"
            self._begin("pruning", 1)
            if isinstance(how, Distil):
                prune(source, PruneLayers(share=how.share, repair=NO_REPAIR), self._text, cut)
                distil(source, cut, how, self._text, done, self._begin("distilling", how.steps))
                yield done
                return
            prune(source, how, self._text, cut)
            if not how.repair.steps:
                yield cut
                return
            repair(cut, how.repair, self._text, done, self._begin("repairing", how.repair.steps))
            yield done


NO_REPAIR = Repair(steps=0)


def _same_facts(parent: Checkpoint) -> SourceFacts:
    return SourceFacts(
        task=parent.task,
        architecture=parent.architecture,
        context_tokens=parent.context_tokens,
        parameters=parent.parameters,
    )
