"""Levers on a checkpoint's weights, one after the other: made, measured, judged, and let in or not.

Every variant is judged against the checkpoint from which its whole line of variants began, so that
many small losses cannot add up unseen; where that one is fine-tuned, on the fine-tune's text, too.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meted.domain.levers import Lever
from meted.domain.variant import LineageStep, Transformation
from meted.live.checkpoints import Checkpoint, CheckpointError, CheckpointRegistry
from meted.live.checkpoints.checkpoint import same_weights, weight_bytes
from meted.live.checkpoints.quality import Quality
from meted.live.checkpoints.registry import VARIANT_PREFIX
from meted.live.variants.judging import Judge
from meted.live.variants.making import Begin, Maker
from meted.live.variants.records import write_record
from meted.live.variants.text import JudgingText
from meted.optimise.gate import Floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one step of a lever.

    name: the variant's. weight_bytes and quality are None where it could not be made; problem says
    why. registered: whether it can be deployed. new: False where it stood there already.
    """

    lever: str
    name: str
    parent: str
    step: Transformation
    weight_bytes: int | None = None
    quality: Quality | None = None
    making_seconds: float = 0.0
    measuring_seconds: float = 0.0
    registered: bool = False
    new: bool = True
    problem: str | None = None


class Trials:
    """Tries levers on one checkpoint."""

    def __init__(
        self,
        *,
        registry: CheckpointRegistry,
        checkpoint: Checkpoint,
        text: JudgingText,
        floor: Floor,
        keep: bool,
        threads: int,
        scratch: Path,
        begin: Begin,
    ) -> None:
        self._registry = registry
        self._checkpoint = checkpoint
        self._keep = keep
        self._maker = Maker(registry=registry, text=text.training, scratch=scratch, begin=begin)
        self._judge = Judge(
            reference=origin(registry, checkpoint),
            text=text,
            floor=floor,
            threads=threads,
            begin=begin,
        )

    def run(self, lever: Lever) -> Iterator[Trial]:
        """A trial for each step of a lever; the steps after one that is not let in are not
        tried."""
        parent = self._checkpoint
        for part, step in lever.steps:
            trial = self._trial(lever.name, part, parent, step)
            yield trial
            if not trial.registered:
                return
            parent = self._registry.get(trial.name)

    def _trial(self, lever: str, part: str, parent: Checkpoint, step: Transformation) -> Trial:
        name = variant_name(parent.name, part)
        if self._registry.has(name):
            return self._found(lever, self._registry.get(name), parent, step)
        started = time.monotonic()
        try:
            with self._registry.workplace() as made:
                facts = self._maker.make(parent, step, made)
                made_at = time.monotonic()
                if same_weights(parent.folder, made):
                    # A fine-tune is converted to 8 bits already, so that `int8` changes nothing.
                    raise CheckpointError(
                        f"its weights are those of {parent.name!r}, byte for byte; nothing would "
                        "be saved"
                    )
                quality = self._judge.judge(made)
                registered = quality.passed or self._keep
                trial = Trial(
                    lever=lever,
                    name=name,
                    parent=parent.name,
                    step=step,
                    weight_bytes=weight_bytes(made),
                    quality=quality,
                    making_seconds=made_at - started,
                    measuring_seconds=time.monotonic() - made_at,
                    registered=registered,
                )
                if registered:
                    self._registry.register_variant(
                        name=name,
                        parent=parent,
                        made=made,
                        facts=facts,
                        done=step,
                        quality=quality,
                    )
        except (CheckpointError, MemoryError) as error:
            return Trial(
                lever=lever,
                name=name,
                parent=parent.name,
                step=step,
                making_seconds=time.monotonic() - started,
                problem=str(error) or "memory ran out",
            )
        assert trial.weight_bytes is not None
        write_record(
            self._registry.folder,
            name=name,
            lineage=(*parent.lineage, LineageStep(parent=parent.name, transformation=step)),
            weight_bytes=trial.weight_bytes,
            seconds=trial.making_seconds + trial.measuring_seconds,
            registered=registered,
            quality=quality,
        )
        return trial

    def _found(
        self, lever: str, found: Checkpoint, parent: Checkpoint, step: Transformation
    ) -> Trial:
        """What was made before is neither made nor measured again."""
        same = found.lineage[-1:] == (LineageStep(parent=parent.name, transformation=step),)
        return Trial(
            lever=lever,
            name=found.name,
            parent=parent.name,
            step=step,
            weight_bytes=found.weight_bytes,
            quality=found.quality,
            registered=same,
            new=False,
            problem=None if same else f"a checkpoint {found.name!r} of another kind has this name",
        )


def variant_name(parent: str, lever: str) -> str:
    """What the variant of a parent is called: `smollm2-135m--int4-g64`."""
    return f"{parent}--{lever.removesuffix('%')}"


def origin(registry: CheckpointRegistry, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint from which a line of variants began: imported, or fine-tuned."""
    while checkpoint.source.startswith(VARIANT_PREFIX) and checkpoint.base is not None:
        if not registry.has(checkpoint.base):
            break
        checkpoint = registry.get(checkpoint.base)
    return checkpoint
