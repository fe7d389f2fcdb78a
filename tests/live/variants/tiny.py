"""Small random networks for tests of what is done to weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
VOCABULARY = 160
TEXT = np.random.default_rng(11).integers(0, VOCABULARY, (6, 32)).astype(np.int32)


def make_network(**changes: Any) -> Any:
    """Three layers that matter, two heads of keys and values for four of queries, 128 neurons."""
    torch.manual_seed(2)
    config = LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "tie_word_embeddings": True,
            **changes,
        }
    )
    network = LlamaForCausalLM(config).eval()
    # As initialised its answers are nearly uniform, and no layer matters to them.
    for name, weight in network.named_parameters():
        if weight.ndim == 2:
            weight.data.mul_(20.0 if "embed" in name else 8.0)
    return network


def read(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()


def logits(network: Any) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=torch.from_numpy(TEXT.astype(np.int64)), use_cache=False).logits
