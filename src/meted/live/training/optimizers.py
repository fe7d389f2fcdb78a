"""How parameters move: every optimizer by its name, with a learning rate that usually works."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from lion_pytorch import Lion  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor, optim
from torch.optim import Optimizer

from meted.domain.job import Method, TrainingSpec
from meted.live.training.errors import TrainingError

Build = Callable[[Sequence[Tensor], float, float], list[Optimizer]]
"""From parameters, learning rate and weight decay to optimizers that step together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An optimizer, its default learning rates, and whether these follow warmup and cosine decay
    or stay constant, as in the plain method."""

    build: Build
    lora: float
    full: float
    decays: bool = True


def _sgd(*, momentum: float = 0.0, nesterov: bool = False) -> Build:
    return lambda parameters, rate, decay: [
        optim.SGD(parameters, lr=rate, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    ]


def _plain(kind: Callable[..., Optimizer]) -> Build:
    return lambda parameters, rate, decay: [kind(parameters, lr=rate, weight_decay=decay)]


def _muon(parameters: Sequence[Tensor], rate: float, decay: float) -> list[Optimizer]:
    """Muon orthogonalises matrices; vectors, and matrices as long as a vocabulary, are AdamW's."""
    matrices = [one for one in parameters if one.ndim == 2 and max(one.shape) < 32_000]
    chosen = {id(one) for one in matrices}
    others = [one for one in parameters if id(one) not in chosen]
    built: list[Optimizer] = []
    if matrices:
        built.append(
            optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        )
    if others:
        built.append(optim.AdamW(others, lr=rate, weight_decay=decay))
    return built


def _adamw8bit(parameters: Sequence[Tensor], rate: float, decay: float) -> list[Optimizer]:
    """Both moments in 8 bits by blocks of 256 (Dettmers et al. 2022), 2 bytes where AdamW has 8;
    tensors of fewer than 4,096 numbers keep 32 bits."""
    try:
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore
    except ImportError as error:
        raise TrainingError(
            "optimizer adamw8bit needs bitsandbytes; install meted[low-bit], or take adamw"
        ) from error
    return [cast(Optimizer, AdamW8bit(parameters, lr=rate, weight_decay=decay))]


# gd is the plain method on the whole training part in each step (Cauchy 1847). Gradients are
# clipped to norm 1. Tried on SmolLM2-135M with LoRA, 10 steps of 1024 tokens: held-out loss 3.116
# becomes 2.938, 2.878, 2.804 with adamw at 5e-4, 1e-3, 2e-3, and 2.914 with sgd at 0.5, which
# diverges at 2; the other rates stand in customary ratios to these.
OPTIMIZERS: dict[str, Recipe] = {
    "gd": Recipe(build=_sgd(), lora=0.5, full=0.1, decays=False),
    "sgd": Recipe(build=_sgd(), lora=0.5, full=0.05, decays=False),
    "momentum": Recipe(build=_sgd(momentum=0.9), lora=0.1, full=0.01),
    "nesterov": Recipe(build=_sgd(momentum=0.9, nesterov=True), lora=0.1, full=0.01),
    "adam": Recipe(build=_plain(optim.Adam), lora=1e-3, full=3e-5),
    "adamw": Recipe(build=_plain(optim.AdamW), lora=1e-3, full=3e-5),
    "adamw8bit": Recipe(build=_adamw8bit, lora=1e-3, full=3e-5),
    # Its steps are relative to the weights, and an adapter's begin small: 20 LoRA steps on 10,000
    # tokens end at 2.979 with 1e-2 and at 2.889 with 1e-1, from 2.983; VM with 2 cores AMD EPYC,
    # 2026-11-27, benchmarks/training_levers.py.
    "adafactor": Recipe(build=_plain(optim.Adafactor), lora=1e-1, full=1e-3),
    "adagrad": Recipe(build=_plain(optim.Adagrad), lora=2e-3, full=1e-4),
    "rmsprop": Recipe(build=_plain(optim.RMSprop), lora=2e-4, full=1e-5),
    "nadam": Recipe(build=_plain(optim.NAdam), lora=1e-3, full=3e-5),
    "radam": Recipe(build=_plain(optim.RAdam), lora=1e-3, full=5e-5),
    "muon": Recipe(build=_muon, lora=1e-3, full=5e-5),
    # Chen et al. 2023: 3 to 10 times below AdamW's.
    "lion": Recipe(build=_plain(Lion), lora=2e-4, full=5e-6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning rate as a pure function of the step, so that a resumed job has nothing to
    restore."""

    peak: float
    total_steps: int
    warmup_steps: int
    decays: bool

    def rate(self, step: int) -> float:
        """The rate of the step after `step` steps: a linear rise, then a half cosine down to a
        tenth of the peak (Loshchilov and Hutter 2017)."""
        if not self.decays:
            return self.peak
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def build_schedule(spec: TrainingSpec, total_steps: int) -> Schedule:
    """The spec's learning rate, or its optimizer's own, over the job's steps."""
    recipe = OPTIMIZERS[spec.optimizer]
    default = recipe.lora if spec.method is Method.LORA else recipe.full
    return Schedule(
        peak=default if spec.learning_rate is None else spec.learning_rate,
        total_steps=total_steps,
        warmup_steps=round(spec.warmup * total_steps),
        decays=recipe.decays,
    )


def build_optimizers(
    spec: TrainingSpec, parameters: Sequence[Tensor], peak_rate: float
) -> list[Optimizer]:
    """The spec's optimizer over these parameters."""
    return OPTIMIZERS[spec.optimizer].build(parameters, peak_rate, spec.weight_decay)


def step_all(optimizers: Sequence[Optimizer], parameters: Sequence[Tensor], *, rate: float) -> None:
    """Clip the gradients to norm 1, move once with this learning rate and forget the gradients."""
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
