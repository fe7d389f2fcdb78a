"""What is read from a served checkpoint: its tokenizer, and its loss on held-out text."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meted.live.checkpoints.checkpoint import MODEL, TOKENIZER_GGUF, Checkpoint, CheckpointError
from meted.live.checkpoints.facts import last_line

if TYPE_CHECKING:
    import openvino_genai

ROWS_AT_ONCE = 256


def load_tokenizer(checkpoint: Checkpoint) -> "openvino_genai.Tokenizer":
    """The one tokenizer of a checkpoint: engine and trainer must both use it.

    On one thread: waking others costs more than they save (between two steps of the engine, 8 short
    answers took 529 us to decode on two threads and 164 us on one; 2 AVX-512 cores, November 2026).
    """
    import openvino_genai

    gguf = checkpoint.folder / TOKENIZER_GGUF
    try:
        return openvino_genai.Tokenizer(
            str(gguf if gguf.exists() else checkpoint.folder), INFERENCE_NUM_THREADS=1
        )
    except RuntimeError as error:
        raise CheckpointError(
            f"the tokenizer of {checkpoint.name!r} in {checkpoint.folder} cannot be loaded: "
            f"{last_line(error)}; remove the checkpoint and import it again"
        ) from error


def held_out_loss(checkpoint: Checkpoint, token_blocks: Sequence[Sequence[int]]) -> float:
    """Mean nats per token of the converted model, in the precision in which it is served.

    Each block is a text of its own, of two tokens or more; its first token is only read.
    """
    import numpy as np
    import openvino

    if not token_blocks or min(len(block) for block in token_blocks) < 2:
        raise ValueError("held-out text needs at least one block of at least two tokens")
    compiled: Any = openvino.Core().compile_model(str(checkpoint.folder / MODEL), "CPU")
    names = {one.get_any_name() for one in compiled.inputs}
    request = compiled.create_infer_request()
    total, count = 0.0, 0
    for block in token_blocks:
        ids = np.asarray(block, dtype=np.int64)[None, :]
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None, :],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        request.reset_state()
        request.infer({name: value for name, value in feed.items() if name in names})
        logits = request.get_tensor("logits").data[0]
        for start in range(0, ids.shape[1] - 1, ROWS_AT_ONCE):
            targets = ids[0, start + 1 : start + 1 + ROWS_AT_ONCE]
            rows = logits[start : start + len(targets)].astype(np.float64)
            top = rows.max(axis=-1)
            log_sum = top + np.log(np.exp(rows - top[:, None]).sum(axis=-1))
            total += float((log_sum - rows[np.arange(len(targets)), targets]).sum())
            count += len(targets)
    return total / count
