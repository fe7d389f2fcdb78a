"""Checkpoints on disk: imported once, converted for the engine, described, and found by name."""

from meted.live.checkpoints.checkpoint import Checkpoint, CheckpointError
from meted.live.checkpoints.loading import held_out_loss, load_tokenizer
from meted.live.checkpoints.registry import CheckpointRegistry

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointRegistry",
    "held_out_loss",
    "load_tokenizer",
]
