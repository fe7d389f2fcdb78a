"""The trials of a search: variations of one spec, spread evenly over the levers' values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from meted.domain.job import LoraTargets, Method, TrainingSpec

OPTIMIZERS = ("adamw", "muon", "lion", "adafactor", "momentum", "sgd", "gd")
"""Not adam, which is adamw while nothing decays; not adamw8bit, which saves memory only."""
RANKS = (4, 16, 64)
TARGETS = (LoraTargets.ALL, LoraTargets.ATTENTION)
BATCHES = (0.5, 1.0, 2.0)
STEP = 3.0
"""Neighbouring learning rates are so many times apart."""
LEAST_GD_STEPS = 4
"""Full-batch descent that makes fewer steps with the job's tokens is not tried."""

Middle = Mapping[tuple[Method, str], float]
"""The learning rate by method and optimizer around which trials lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a job: tokens of its training part, and how many optimizer steps its spec makes."""

    train_tokens: int
    steps: int


def variations(
    spec: TrainingSpec,
    *,
    plain: TrainingSpec,
    levers: Sequence[str],
    count: int,
    middle: Middle,
    size: Size,
) -> dict[str, TrainingSpec]:
    """At most `count` specs by name, first `plain`: the given one as it would run without a search.
    Each has the job's tokens in all, so that a larger batch makes fewer steps; each value of a
    lever is about equally frequent."""
    found = {name_of(plain): plain}
    values = _values(spec, levers, size)
    random = np.random.default_rng([spec.seed, 1])
    # A lattice of shuffled columns, again and again until enough differ.
    for _ in range(20):
        columns = {lever: _column(random, options, count) for lever, options in values.items()}
        for row in range(count):
            if len(found) == count:
                return found
            one = _varied(spec, {lever: columns[lever][row] for lever in columns}, middle, size)
            found.setdefault(name_of(one), one)
    return found


def resolved(spec: TrainingSpec, middle: Middle, size: Size) -> TrainingSpec:
    """The spec with its learning rate and its steps said."""
    rate = spec.learning_rate or middle[(spec.method, spec.optimizer)]
    return replace(spec, learning_rate=rate, steps=size.steps, epochs=None, auto=None)


def name_of(spec: TrainingSpec) -> str:
    """What tells a trial from the others."""
    adapters = f"r{spec.lora_rank}-{spec.lora_targets}" if spec.method is Method.LORA else "full"
    batch = spec.batch_tokens or "all"
    return f"{spec.optimizer}-{spec.learning_rate:.3g}-{adapters}-b{batch}"


def _values(spec: TrainingSpec, levers: Sequence[str], size: Size) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    if "optimizer" in levers:
        names = dict.fromkeys((spec.optimizer, *OPTIMIZERS))
        tokens = size.steps * (spec.batch_tokens or size.train_tokens)
        if tokens < LEAST_GD_STEPS * size.train_tokens and spec.optimizer != "gd":
            names.pop("gd")
        values["optimizer"] = list(names)
    if "rate" in levers:
        values["rate"] = [1 / STEP, 1.0, STEP]
    if "method" in levers:
        values["method"] = list(Method)
    if "batch" in levers and spec.batch_tokens is not None:
        batches = [int(spec.batch_tokens * part) for part in BATCHES]
        values["batch"] = [one for one in batches if one >= spec.sequence_tokens]
    if "rank" in levers:
        values["rank"] = sorted({spec.lora_rank, *RANKS})
    if "targets" in levers:
        values["targets"] = list(dict.fromkeys((spec.lora_targets, *TARGETS)))
    return values


def _column(random: np.random.Generator, options: list[Any], count: int) -> list[Any]:
    repeats = -(-count // len(options))
    return [
        options[int(index)] for _ in range(repeats) for index in random.permutation(len(options))
    ][:count]


def _varied(
    spec: TrainingSpec, values: Mapping[str, Any], middle: Middle, size: Size
) -> TrainingSpec:
    optimizer = values.get("optimizer", spec.optimizer)
    method = values.get("method", spec.method)
    own = (method, optimizer) == (spec.method, spec.optimizer) and spec.learning_rate is not None
    around = spec.learning_rate if own and spec.learning_rate else middle[(method, optimizer)]
    batch = values.get("batch", spec.batch_tokens)
    tokens = size.steps * (spec.batch_tokens or size.train_tokens)
    each = size.train_tokens if optimizer == "gd" or batch is None else batch
    lora = method is Method.LORA
    return replace(
        spec,
        optimizer=optimizer,
        method=method,
        learning_rate=float(f"{around * values.get('rate', 1.0):.3g}"),
        batch_tokens=None if optimizer == "gd" else batch or spec.sequence_tokens * 8,
        steps=max(1, round(tokens / each)),
        epochs=None,
        # What a full fine-tune does not have would only give it other names.
        lora_rank=values.get("rank", spec.lora_rank) if lora else spec.lora_rank,
        lora_targets=values.get("targets", spec.lora_targets) if lora else spec.lora_targets,
        auto=None,
    )
