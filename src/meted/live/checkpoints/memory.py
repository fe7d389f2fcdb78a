"""Is there memory enough to convert and serve a checkpoint? Asked before anything is loaded."""

from pathlib import Path

import psutil

from meted.live.checkpoints.checkpoint import CheckpointError

KV_CACHE_BYTES = 1 << 30
OVERHEAD_BYTES = 512 << 20


def check_memory(path: Path, *, weight_bytes: int) -> None:
    """Raises CheckpointError if the weights, 1 GiB of KV cache and the libraries do not fit."""
    needed = weight_bytes + KV_CACHE_BYTES + OVERHEAD_BYTES
    available = psutil.virtual_memory().available
    if needed > available:
        raise CheckpointError(
            f"{path} needs about {needed / 1e9:.1f} GB of memory ({weight_bytes / 1e9:.1f} GB of "
            f"weights, the rest for the KV cache and libraries) and {available / 1e9:.1f} GB is "
            "free; stop something or take a smaller checkpoint"
        )
