"""A network whose weights have moved, or whose shape has changed, becomes a checkpoint again."""

import shutil
from dataclasses import replace
from pathlib import Path

from meted.domain.deployment import Task
from meted.live.checkpoints.checkpoint import TRAINABLE, Checkpoint
from meted.live.checkpoints.facts import Progress, SourceFacts
from meted.live.checkpoints.hugging_face_source import COPIED, export, inspect_hugging_face
from meted.live.checkpoints.openvino_source import TOKENIZER_FILES, link_or_copy
from meted.live.checkpoints.verify import verify_generation


def convert_reshaped(
    hf_folder: Path, out: Path, base: Checkpoint, progress: Progress
) -> SourceFacts:
    """Write the served form of `hf_folder` (no tokenizer) into `out`, and the folder itself.

    Its files stay reachable, by hard links where possible. The facts never promise more context
    than the base has.
    """
    facts = inspect_hugging_face(hf_folder)
    progress("exporting to OpenVINO")
    export(hf_folder, out, Task.GENERATE)
    take_over_tokenizer(base, out)
    shutil.copytree(hf_folder, out / TRAINABLE, copy_function=link_or_copy)
    progress("trying it out")
    verify_generation(out, source=hf_folder)
    return replace(facts, context_tokens=min(facts.context_tokens, base.context_tokens))


def take_over_tokenizer(base: Checkpoint, out: Path) -> None:
    """Give `out` the base's own tokenizer and the small files beside it, its config.json not."""
    for file in (*TOKENIZER_FILES, *COPIED):
        if (base.folder / file).exists() and file != "config.json":
            (out / file).unlink(missing_ok=True)
            link_or_copy(base.folder / file, out / file)
