"""The network in training: a base checkpoint whose adapters, or all of it, can be moved."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from meted.domain.job import LoraTargets, Method, TrainingSpec
from meted.live.training.errors import TrainingError
from meted.live.training.fused_loss import fused_cross_entropy

BYTES_PER_MOVED_PARAMETER = 16
"""Weight, gradient and two moments, in float32."""
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
ROOM_BYTES = 1 << 30
"""Activations of a micro-batch and the libraries themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """A network, the parameters that training moves, and how its loss is computed.

    network: the Hugging Face module, adapters inside. shell: PEFT's wrapper around it, or itself.
    head: the output projection where the fused loss applies, else None.
    """

    network: Any
    shell: Any
    parameters: dict[str, nn.Parameter]
    head: Tensor | None
    bf16: bool

    def loss(self, rows: NDArray[np.int32]) -> Tensor:
        """Mean nats per token over the rows, each token after the first predicted."""
        ids = torch.from_numpy(rows.astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            if self.head is None:
                logits: Tensor = self.network(input_ids=ids, use_cache=False).logits[:, :-1]
                return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
            output = self.network.base_model(input_ids=ids, use_cache=False)
        hidden: Tensor = output.last_hidden_state[:, :-1].flatten(0, 1)
        if self.bf16:
            hidden = hidden.to(torch.bfloat16)
        return fused_cross_entropy(hidden, self.head, ids[:, 1:].flatten())

    def train(self, mode: bool) -> None:
        """Turn drop-out, where a network has it, on or off."""
        self.network.train(mode)

    def weights(self) -> dict[str, Tensor]:
        """The moved parameters by name, sharing memory with the network."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Put back what `weights` gave."""
        if weights.keys() != self.parameters.keys():
            raise TrainingError(
                f"the checkpoint holds {len(weights)} parameters of another kind than the "
                f"{len(self.parameters)} in training; remove the job's folder to start afresh"
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])


def load_trainee(folder: Path, spec: TrainingSpec, *, layers: float = 1.0) -> Trainee:
    """The network of a Hugging Face folder, ready to be trained as the spec says.

    layers: the share of its layers, evenly chosen, that a proxy keeps. Raises TrainingError if
    memory is short.
    """
    _check_memory(folder, spec)
    torch.manual_seed(spec.seed)
    network = _load(folder)
    if layers < 1:
        _thin(network, layers)
    head = _separable_head(network)
    shell = _wrap(network, spec)
    if spec.activation_checkpointing:
        # Chen et al. 2016: a layer's activations are worked out again when its gradient is.
        network.gradient_checkpointing_enable({"use_reentrant": False})
    bf16 = spec.precision == "bf16" or (spec.precision == "auto" and has_fast_bf16())
    if bf16 and spec.method is Method.LORA:
        # Autocast would turn the frozen matrices into bfloat16 again in every forward pass.
        head = None if head is None else head.detach().to(torch.bfloat16)
        output = network.get_output_embeddings()
        for module in network.modules():
            frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad
            if frozen and module is not output:
                module.weight.data = module.weight.data.to(torch.bfloat16)
    moved = {name: one for name, one in shell.named_parameters() if one.requires_grad}
    return Trainee(network=network, shell=shell, parameters=moved, head=head, bf16=bf16)


def save_merged(folder: Path, spec: TrainingSpec, weights: dict[str, Tensor], out: Path) -> None:
    """Write the base in `folder` with trained weights applied, in float32, as a Hugging Face
    folder without tokenizer."""
    network = _load(folder)
    shell = _wrap(network, spec)
    parameters = {name: one for name, one in shell.named_parameters() if one.requires_grad}
    trainee = Trainee(network=network, shell=shell, parameters=parameters, head=None, bf16=False)
    trainee.restore(weights)
    merged = shell.merge_and_unload() if spec.method is Method.LORA else shell
    merged.save_pretrained(out, safe_serialization=True)


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies in bfloat16; where it does not, bfloat16 is 6 times slower
    than float32 (two AVX2 cores, LoRA on SmolLM2-135M)."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


def _load(folder: Path) -> Any:
    network = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    network.config.use_cache = False
    return network


def _thin(network: Any, share: float) -> None:
    """Keep this share of the layers. Raises TrainingError where they are not found."""
    count = network.config.num_hidden_layers
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                kept = np.unique(np.linspace(0, count - 1, max(2, round(share * count))).round())
                setattr(module, name, nn.ModuleList([child[int(one)] for one in kept]))
                network.config.num_hidden_layers = len(kept)
                return
    raise TrainingError("the network's layers stand in no list; take finder range or recipe")


def _wrap(network: Any, spec: TrainingSpec) -> Any:
    """Adapters on linear layers (Hu et al. 2021; on all of them: Dettmers et al. 2023)."""
    if spec.method is Method.FULL:
        return network
    alpha = 2 * spec.lora_rank if spec.lora_alpha is None else spec.lora_alpha
    return get_peft_model(
        network,
        LoraConfig(
            r=spec.lora_rank,
            lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=0.0,
            target_modules=_targets(network, spec.lora_targets),
            task_type="CAUSAL_LM",
        ),
    )


def _targets(network: Any, targets: LoraTargets) -> str | list[str]:
    """The linear layers inside attention, or the others. Raises TrainingError if there are none."""
    if targets is LoraTargets.ALL:
        return "all-linear"
    output = network.get_output_embeddings()
    linear = [
        name
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not output
    ]
    wanted = targets is LoraTargets.ATTENTION
    chosen = [name for name in linear if bool(ATTENTION.search(name)) is wanted]
    if not chosen:
        raise TrainingError(
            f"lora_targets is {targets!r}, but none of the network's {len(linear)} linear layers "
            "is of that kind by its name; take lora_targets all"
        )
    return chosen


def _separable_head(network: Any) -> Tensor | None:
    """The output projection, if logits are nothing but hidden states times it: some architectures
    scale or cap them, and so a few tokens are tried both ways."""
    head: Any = network.get_output_embeddings()
    if not isinstance(head, nn.Linear) or getattr(head, "bias", None) is not None:
        return None
    ids = torch.arange(8).remainder(head.out_features).unsqueeze(0)
    network.eval()
    with torch.no_grad():
        logits = network(input_ids=ids, use_cache=False).logits
        hidden = network.base_model(input_ids=ids, use_cache=False).last_hidden_state
        same = torch.allclose(logits, hidden @ head.weight.T, rtol=1e-3, atol=1e-3)
    return head.weight if same else None


def _check_memory(folder: Path, spec: TrainingSpec) -> None:
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    moved = BYTES_PER_MOVED_PARAMETER // 4 if spec.method is Method.FULL else 1
    needed = weights * moved + ROOM_BYTES
    available = psutil.virtual_memory().available
    if needed > available:
        raise TrainingError(
            f"training {spec.base!r} ({spec.method}) needs about {needed / 1e9:.1f} GB of memory "
            f"and {available / 1e9:.1f} GB is free; use method lora, undeploy something or take a "
            "smaller model"
        )
