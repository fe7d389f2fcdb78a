"""From trained weights to a checkpoint that can be deployed, with the losses it really has."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from meted.domain.job import Method, TrainingSpec
from meted.domain.variant import FineTune
from meted.live.checkpoints import Checkpoint, CheckpointRegistry, held_out_loss
from meted.live.checkpoints.checkpoint import rewrite_description
from meted.live.training.checkpoint import write_whole
from meted.live.training.data import Ids
from meted.live.training.model import save_merged

HELD_OUT = "held_out.npz"
"""The rows beside the weights: whoever changes these later must ask what is left of the gain."""


def publish(
    *,
    spec: TrainingSpec,
    registry: CheckpointRegistry,
    workdir: Path,
    weights: dict[str, Tensor],
    held_out: dict[str, float],
    held_out_rows: Ids,
) -> float:
    """Merge, convert and register under the spec's name; the converted checkpoint's own loss.

    The registered checkpoint carries all three losses, since conversion can undo a fine-tune, and
    the rows on which they were measured.
    """
    if not registry.has(spec.name):  # Else an earlier process came this far and was killed.
        merged = workdir / "merged"
        shutil.rmtree(merged, ignore_errors=True)
        save_merged(registry.trainable_folder(spec.base), spec, weights, merged)
        registry.register_trained(
            name=spec.name,
            base=registry.get(spec.base),
            hf_folder=merged,
            held_out=held_out,
            done=fine_tune(spec),
        )
        shutil.rmtree(merged)
    checkpoint = registry.get(spec.name)
    with write_whole(checkpoint.folder / HELD_OUT) as file:
        np.savez_compressed(file, rows=held_out_rows)
    converted = held_out_loss(checkpoint, held_out_rows.tolist())
    rewrite_description(replace(checkpoint, held_out={**held_out, "converted": converted}))
    return converted


def fine_tune(spec: TrainingSpec) -> FineTune:
    """What a job does to weights, for the lineage."""
    return FineTune(
        job=spec.name,
        method=spec.method,
        optimizer=spec.optimizer,
        lora_rank=spec.lora_rank if spec.method is Method.LORA else None,
        data=spec.data,
    )


def held_out_rows_of(checkpoint: Checkpoint) -> Ids | None:
    """The text on which a fine-tune was judged and never trained; None if it was not kept."""
    path = checkpoint.folder / HELD_OUT
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["rows"]
