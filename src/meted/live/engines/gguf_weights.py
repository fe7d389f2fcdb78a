"""Where a checkpoint's weights lie as GGUF, the only form that llama.cpp reads."""

from pathlib import Path

from meted.live.checkpoints.builtin import SOURCE_PREFIX, locate
from meted.live.checkpoints.checkpoint import GGUF_MODEL, Checkpoint, CheckpointError


def gguf_of(checkpoint: Checkpoint) -> Path:
    """The checkpoint's own `model.gguf`, else the file that it was imported from.

    Raises CheckpointError, naming what to do, if there is neither.
    """
    own = checkpoint.folder / GGUF_MODEL
    if own.exists():
        return own
    source = checkpoint.source
    if source.startswith(SOURCE_PREFIX):
        path = locate(source.removeprefix(SOURCE_PREFIX))
    else:
        path = Path(source)
    if path.suffix != ".gguf":
        raise CheckpointError(
            f"the engine llamacpp reads GGUF, and {checkpoint.name!r} comes from {source}; import "
            "the model's GGUF file, make a GGUF variant of it, or serve it with the engine openvino"
        )
    if not path.is_file():
        raise CheckpointError(
            f"the engine llamacpp needs {path}, which {checkpoint.name!r} was imported from and "
            "which is gone; put it back, or serve it with the engine openvino"
        )
    return path
