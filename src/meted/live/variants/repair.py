"""Short training after weights were taken away, with the training room's network and optimizers.

A few dozen steps: nothing is kept of them but the result.
"""
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from meted.domain.job import Method, TrainingSpec
from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import JobName, TenantName
from meted.domain.variant import Distil, Repair
from meted.live.checkpoints.checkpoint import CheckpointError
from meted.live.training.data import Ids, step_rows
from meted.live.training.model import Trainee, load_trainee, save_merged
from meted.live.training.optimizers import build_optimizers, build_schedule, step_all

Tick = Callable[[], None]
Loss = Callable[[Ids], Tensor]


def repair(hf_folder: Path, how: Repair, text: Ids, out: Path, tick: Tick) -> None:
    """Write the network of `hf_folder` after a short fine-tune on `text` ([rows, tokens])."""
    spec = _spec(text, how, how.method)
    trainee = load_trainee(hf_folder, spec)
    _train(trainee, spec, text, trainee.loss, tick)
    weights = trainee.weights()
    del trainee
    save_merged(hf_folder, spec, weights, out)


def distil(
    hf_folder: Path, student_folder: Path, how: Distil, text: Ids, out: Path, tick: Tick
) -> None:
    """Write the student after training on the distributions of the network in `hf_folder`."""
    from transformers import AutoModelForCausalLM

    spec = _spec(text, how, Method.FULL)
    student = load_trainee(student_folder, spec)
    teacher: Any = AutoModelForCausalLM.from_pretrained(
        hf_folder, dtype=torch.float32, local_files_only=True
    ).eval()

    def loss(rows: Ids) -> Tensor:
        ids = torch.from_numpy(rows.astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=student.bf16):
            with torch.no_grad():
                taught: Tensor = teacher(input_ids=ids, use_cache=False).logits
            learnt: Tensor = student.network(input_ids=ids, use_cache=False).logits
        return distillation_loss(taught[:, :-1], learnt[:, :-1], ids[:, 1:], how)

    _train(student, spec, text, loss, tick)
    student.network.save_pretrained(out, safe_serialization=True)


def distillation_loss(taught: Tensor, learnt: Tensor, targets: Tensor, how: Distil) -> Tensor:
    """weight * T^2 * KL(taught, learnt at temperature T) + (1 - weight) * cross entropy, mean nats
    per token (Hinton et al. 2015). Logits: [rows, tokens, vocabulary]; targets: [rows, tokens]."""
    taught, learnt = taught.flatten(0, 1).float(), learnt.flatten(0, 1).float()
    divergence = functional.kl_div(
        torch.log_softmax(learnt / how.temperature, dim=-1),
        torch.log_softmax(taught / how.temperature, dim=-1),
        log_target=True,
        reduction="batchmean",
    )
    plain = functional.cross_entropy(learnt, targets.flatten())
    return how.weight * how.temperature**2 * divergence + (1 - how.weight) * plain


def _train(trainee: Trainee, spec: TrainingSpec, text: Ids, loss: Loss, tick: Tick) -> None:
    """spec.steps optimizer steps; raises CheckpointError if the loss is lost."""
    assert spec.steps is not None and spec.batch_tokens is not None
    parameters = list(trainee.parameters.values())
    schedule = build_schedule(spec, spec.steps)
    optimizers = build_optimizers(spec, parameters, schedule.peak)
    count = min(len(text), max(1, spec.batch_tokens // text.shape[1]))
    trainee.train(True)
    for step in range(spec.steps):
        chosen = step_rows(step=step, rows_per_step=count, rows=len(text), seed=spec.seed)
        for start in range(0, count, spec.micro_batch):
            micro = text[chosen[start : start + spec.micro_batch]]
            part = loss(micro) * (len(micro) / count)
            if not math.isfinite(part.item()):
                raise CheckpointError(
                    f"the loss of {spec.name} is lost in step {step + 1} with learning rate "
                    f"{schedule.rate(step):g}; leave this lever out"
                )
            part.backward()  # pyright: ignore[reportUnknownMemberType]
        step_all(optimizers, parameters, rate=schedule.rate(step))
        tick()
    trainee.train(False)


def _spec(text: Ids, how: Repair | Distil, method: Method) -> TrainingSpec:
    return TrainingSpec(
        name=JobName("repair"),
        base="the pruned network",
        data="",
        tenant=TenantName("default"),
        project=DEFAULT_PROJECT,
        method=method,
        steps=how.steps,
        learning_rate=how.learning_rate,
        sequence_tokens=text.shape[1],
        batch_tokens=how.batch_tokens,
        seed=how.seed,
    )
