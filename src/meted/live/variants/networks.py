"""A checkpoint as a function from tokens to logits, whichever format its weights have."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from meted.live.checkpoints.checkpoint import GGUF_MODEL, MODEL
from meted.live.training.data import Ids


class Network(Protocol):
    """What is measured. ids: [rows, tokens] of one length; the answer: [rows, tokens, vocabulary],
    which holds until the next call."""

    def logits(self, ids: Ids) -> Tensor: ...


class OpenVinoNetwork:
    """The compiled model, in the precision in which the engine serves it."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        import openvino

        compiled: Any = openvino.Core().compile_model(
            str(folder / MODEL), "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self._names = {one.get_any_name() for one in compiled.inputs}
        self._request: Any = compiled.create_infer_request()

    def logits(self, ids: Ids) -> Tensor:
        feed = feed_of(ids)
        self._request.reset_state()
        self._request.infer({name: value for name, value in feed.items() if name in self._names})
        return torch.from_numpy(self._request.get_tensor("logits").data)


class TorchNetwork:
    """A Hugging Face module, in float32."""

    def __init__(self, network: Any) -> None:
        self._network = network.eval()

    def logits(self, ids: Ids) -> Tensor:
        with torch.no_grad():
            rows = torch.from_numpy(ids.astype(np.int64))
            return self._network(input_ids=rows, use_cache=False).logits


def open_network(folder: Path, *, threads: int) -> Network:
    """The network of a checkpoint's folder; torch's own threads are the process's.

    A GGUF file's weights are dequantised into float32: what llama.cpp loses by quantising
    activations as well is not in what is measured.
    """
    if (folder / GGUF_MODEL).exists():
        from transformers import AutoModelForCausalLM

        return TorchNetwork(
            AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=GGUF_MODEL, dtype=torch.float32, local_files_only=True
            )
        )
    return OpenVinoNetwork(folder, threads=threads)


def feed_of(ids: Ids) -> dict[str, Any]:
    """Tokens as the inputs of a stateful OpenVINO model that has read nothing yet."""
    rows = ids.astype(np.int64)
    return {
        "input_ids": rows,
        "attention_mask": np.ones_like(rows),
        "position_ids": np.broadcast_to(np.arange(rows.shape[1], dtype=np.int64), rows.shape),
        "beam_idx": np.arange(len(rows), dtype=np.int32),
    }
