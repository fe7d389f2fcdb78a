"""From trained weights to a checkpoint that can be deployed, with the losses it really has."""

import shutil
import tempfile
from pathlib import Path

from torch import Tensor

from meted.domain.job import TrainingSpec
from meted.live.checkpoints import Checkpoint, CheckpointRegistry, held_out_loss
from meted.live.checkpoints.checkpoint import DESCRIPTION, Description, write_description
from meted.live.training.data import Ids
from meted.live.training.model import save_merged


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

    The registered checkpoint carries all three losses, since conversion can undo a fine-tune.
    """
    if not registry.has(spec.name):  # Else an earlier process came this far and was killed.
        merged = workdir / "merged"
        shutil.rmtree(merged, ignore_errors=True)
        save_merged(registry.trainable_folder(spec.base), spec, weights, merged)
        registry.register_trained(
            name=spec.name, base=registry.get(spec.base), hf_folder=merged, held_out=held_out
        )
        shutil.rmtree(merged)
    checkpoint = registry.get(spec.name)
    converted = held_out_loss(checkpoint, held_out_rows.tolist())
    _note_losses(checkpoint, {**held_out, "converted": converted})
    return converted


def _note_losses(checkpoint: Checkpoint, held_out: dict[str, float]) -> None:
    description = Description(
        task=checkpoint.task,
        architecture=checkpoint.architecture,
        context_tokens=checkpoint.context_tokens,
        parameters=checkpoint.parameters,
        weight_bytes=checkpoint.weight_bytes,
        source=checkpoint.source,
        base=checkpoint.base,
        created=checkpoint.created,
        held_out=held_out,
    )
    with tempfile.TemporaryDirectory(dir=checkpoint.folder) as folder:
        write_description(Path(folder), description)
        (Path(folder) / DESCRIPTION).replace(checkpoint.folder / DESCRIPTION)
