"""What has no effect is found and taken out, and then nothing changes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from meted.domain.variant import PruneHeads, PruneLayers, PruneNeurons
from meted.live.checkpoints import CheckpointError
from meted.live.variants.prune import prune, turns

from .tiny import TEXT, logits, make_network, read


def pruned(network: Any, how: PruneLayers | PruneHeads | PruneNeurons, tmp_path: Path) -> Any:
    network.save_pretrained(tmp_path / "whole")
    prune(tmp_path / "whole", how, TEXT, tmp_path / "pruned")
    return read(tmp_path / "pruned")


@pytest.mark.parametrize(
    "how", [PruneLayers(share=0.33), PruneNeurons(share=0.5), PruneHeads(groups=1)]
)
def test_what_matters_is_missed(
    tmp_path: Path, how: PruneLayers | PruneHeads | PruneNeurons
) -> None:
    network = make_network()
    smaller = pruned(network, how, tmp_path)
    assert float((logits(smaller) - logits(network)).std() / logits(network).std()) > 0.1


def test_the_layer_that_turns_nothing_goes_and_the_answers_stay(tmp_path: Path) -> None:
    network = make_network()
    idle = network.model.layers[1]
    idle.self_attn.o_proj.weight.data.zero_()
    idle.mlp.down_proj.weight.data.zero_()
    assert turns(network, TEXT).argmin() == 1
    smaller = pruned(network, PruneLayers(share=0.33), tmp_path)
    assert smaller.config.num_hidden_layers == 2
    torch.testing.assert_close(logits(smaller), logits(network))


def test_neurons_that_move_nothing_go_and_the_answers_stay(tmp_path: Path) -> None:
    network = make_network()
    for number, layer in enumerate(network.model.layers):
        layer.mlp.down_proj.weight.data[:, number : number + 64] = 0
    smaller = pruned(network, PruneNeurons(share=0.5), tmp_path)
    assert smaller.config.intermediate_size == 64
    assert smaller.model.layers[0].mlp.gate_proj.weight.shape == (64, 64)
    torch.testing.assert_close(logits(smaller), logits(network))


@pytest.mark.parametrize("silent", [0, 1])
def test_the_heads_whose_output_goes_nowhere_go_together(tmp_path: Path, silent: int) -> None:
    network = make_network()
    for layer in network.model.layers:
        layer.self_attn.o_proj.weight.data[:, silent * 32 : (silent + 1) * 32] = 0
    smaller = pruned(network, PruneHeads(groups=1), tmp_path)
    config = smaller.config
    assert (config.num_key_value_heads, config.num_attention_heads, config.head_dim) == (1, 2, 16)
    torch.testing.assert_close(logits(smaller), logits(network))


def test_what_would_leave_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 heads of keys"):
        pruned(make_network(), PruneHeads(groups=2), tmp_path)
    with pytest.raises(CheckpointError, match="leaves 128"):
        pruned(make_network(), PruneNeurons(share=0.1), tmp_path)
