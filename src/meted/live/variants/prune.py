"""Structured pruning: layers, groups of heads or neurons go; a smaller dense network stays.

What goes is told by the calibration text; what stays keeps its weights.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from meted.domain.variant import PruneHeads, PruneLayers, PruneNeurons
from meted.live.checkpoints.checkpoint import CheckpointError
from meted.live.training.data import Ids

CALIBRATION_ROWS = 32
NEURONS_MULTIPLE = 64
"""Neurons that stay: a multiple of the groups that share a scale in quantised weights."""
LAYER = re.compile(r"(model\.layers\.)(\d+)(\..+)")
State = dict[str, Tensor]


def prune(
    hf_folder: Path, how: PruneLayers | PruneHeads | PruneNeurons, text: Ids, out: Path
) -> None:
    """Write the smaller network as a Hugging Face folder, unrepaired. text: [rows, tokens].

    Raises CheckpointError if the network is not built of layers as Llama's, or too little stays.
    """
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(
        hf_folder, dtype=torch.float32, local_files_only=True
    )
    config = network.config
    _check_layers(network, hf_folder)
    rows = text[:CALIBRATION_ROWS]
    match how:
        case PruneLayers():
            state = _without_layers(network, config, how.share, rows)
        case PruneHeads():
            state = _without_heads(network, config, how.groups, rows)
        case PruneNeurons():
            state = _without_neurons(network, config, how.share, rows)
    del network
    smaller: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    smaller.load_state_dict(state)
    smaller.save_pretrained(out, safe_serialization=True)


def turns(network: Any, rows: Ids) -> Tensor:
    """How much each layer turns the hidden state: 1 less the cosine between what comes in and what
    goes out, mean over tokens ("block influence", Men et al. 2024, eq. 1)."""
    layers = network.model.layers
    total = torch.zeros(len(layers), dtype=torch.float64)

    def watch(index: int) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, inputs: Any, output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            cosine = functional.cosine_similarity(inputs[0].float(), after.float(), dim=-1)
            total[index] += float((1 - cosine).double().mean())

        return hook

    _read(network, rows, {layer: watch(index) for index, layer in enumerate(layers)})
    return total / len(rows)


def _without_layers(network: Any, config: Any, share: float, rows: Ids) -> State:
    count = int(config.num_hidden_layers)
    gone = max(1, round(count * share))
    if gone >= count:
        raise CheckpointError(f"{share:.0%} of {count} layers leaves none; take a smaller share")
    order = turns(network, rows).argsort().tolist()
    kept = sorted(order[gone:])
    places = {str(old): str(new) for new, old in enumerate(kept)}
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    state = State()
    for name, weight in network.state_dict().items():
        found = LAYER.fullmatch(name)
        if found is None:
            state[name] = weight
        elif found[2] in places:
            state[f"{found[1]}{places[found[2]]}{found[3]}"] = weight
    return state


def _without_neurons(network: Any, config: Any, share: float, rows: Ids) -> State:
    count = int(config.intermediate_size)
    kept = round(count * (1 - share) / NEURONS_MULTIPLE) * NEURONS_MULTIPLE
    if not 0 < kept < count:
        raise CheckpointError(
            f"{share:.0%} of {count} neurons leaves {kept} in multiples of {NEURONS_MULTIPLE}; "
            "take another share"
        )
    downs = [layer.mlp.down_proj for layer in network.model.layers]
    config.intermediate_size = kept
    state: State = dict(network.state_dict())
    for index, loudness in enumerate(_loudness(network, downs, rows)):
        best = loudness.argsort(descending=True)[:kept].sort().values
        at = f"model.layers.{index}.mlp."
        _keep(state, at, best, rows=("gate_proj", "up_proj"), columns="down_proj")
    return state


def _without_heads(network: Any, config: Any, groups: int, rows: Ids) -> State:
    count, heads = int(config.num_key_value_heads), int(config.num_attention_heads)
    if groups >= count:
        raise CheckpointError(
            f"each layer has {count} heads of keys and values; {groups} cannot go, take fewer"
        )
    outputs = [layer.self_attn.o_proj for layer in network.model.layers]
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    config.head_dim = size
    config.num_key_value_heads = count - groups
    config.num_attention_heads = (count - groups) * heads // count
    state: State = dict(network.state_dict())
    for index, loudness in enumerate(_loudness(network, outputs, rows)):
        by_group = loudness.square().reshape(count, -1).sum(1)
        best = by_group.argsort(descending=True)[: count - groups].sort().values
        at = f"model.layers.{index}.self_attn."
        queries = _within(best, len(loudness) // count)
        _keep(state, at, queries, rows=("q_proj",), columns="o_proj")
        _keep(state, at, _within(best, size), rows=("k_proj", "v_proj"), columns=None)
    return state


def _loudness(network: Any, matrices: list[Any], rows: Ids) -> list[Tensor]:
    """Of each input of each matrix: root mean square over the text times the norm of the weights
    that it goes out by."""
    energy = [torch.zeros(one.in_features, dtype=torch.float64) for one in matrices]

    def watch(index: int) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, inputs: Any, _output: Any) -> None:
            energy[index] += inputs[0].flatten(0, -2).double().square().mean(0)

        return hook

    _read(network, rows, {one: watch(index) for index, one in enumerate(matrices)})
    return [
        (total / len(rows)).sqrt() * one.weight.detach().double().norm(dim=0)
        for total, one in zip(energy, matrices, strict=True)
    ]


def _read(network: Any, rows: Ids, hooks: dict[Any, Callable[[Any, Any, Any], None]]) -> None:
    """Let the network read the rows while hooks watch its modules."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    network.eval()
    with torch.no_grad():
        for row in rows:
            ids = torch.from_numpy(row[None, :].astype(np.int64))
            network.model(input_ids=ids, use_cache=False)
    for handle in handles:
        handle.remove()


def _keep(
    state: State, at: str, chosen: Tensor, *, rows: tuple[str, ...], columns: str | None
) -> None:
    """Keep the chosen outputs of some matrices (their biases too) and inputs of another."""
    for name in rows:
        for part in ("weight", "bias"):
            if f"{at}{name}.{part}" in state:
                state[f"{at}{name}.{part}"] = state[f"{at}{name}.{part}"][chosen]
    if columns is not None:
        state[f"{at}{columns}.weight"] = state[f"{at}{columns}.weight"][:, chosen]


def _within(groups: Tensor, size: int) -> Tensor:
    """The channels of some groups of `size` channels each."""
    return (groups[:, None] * size + torch.arange(size)).flatten()


def _check_layers(network: Any, hf_folder: Path) -> None:
    layers = getattr(getattr(network, "model", None), "layers", None)
    parts = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    names = {name for name, _ in layers[0].named_modules()} if layers else set[str]()
    missing = [part for part in parts if part not in names]
    if missing:
        raise CheckpointError(
            f"{hf_folder} ({network.config.model_type}) has layers without {', '.join(missing)}; "
            "only networks built as Llama (Qwen, Mistral, ...) are pruned"
        )
