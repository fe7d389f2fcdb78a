"""A training spec from a user's hands: read, completed and checked before anything starts."""

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml

from meted.domain.job import AutoTraining, LoraTargets, Method, TrainingSpec
from meted.live.job_checks import (
    check_common,
    check_keys,
    check_number,
    convert,
    refuse,
    required,
)
from meted.live.training.auto_spec import check_auto

OPTIMIZER_NAMES = (
    "gd",
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "adamw8bit",
    "adafactor",
    "adagrad",
    "rmsprop",
    "nadam",
    "radam",
    "muon",
    "lion",
)
PRECISIONS = ("auto", "fp32", "bf16")


def load_spec_yaml(path: str | Path) -> TrainingSpec:
    """The checked spec in a YAML file, whose keys are the fields of `TrainingSpec`.

    `model` may stand for `base`. A relative `data` is taken from the file's own folder.
    Raises ValueError, naming the file, for anything that is wrong with it.
    """
    path = Path(path)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the spec {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from None
    if not isinstance(content, Mapping):
        expected = ", ".join(required(TrainingSpec))
        raise ValueError(f"{path} holds no keys; expected at least {expected}")
    mapping: dict[str, Any] = {str(key): value for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if "model" in mapping:
        if "base" in mapping:
            raise ValueError(f"{path} gives both model and base, which mean the same; keep one")
        mapping["base"] = mapping.pop("model")
    if isinstance(mapping.get("data"), str):
        mapping["data"] = str((path.parent / Path(mapping["data"]).expanduser()).resolve())
    try:
        # YAML 1.1 reads 1e-4 as text, so that numbers written as text must pass here.
        return _spec(mapping, strict=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def spec_from_mapping(mapping: Mapping[str, Any]) -> TrainingSpec:
    """The checked spec of a mapping from field names to values, e.g. a decoded JSON body.

    Left out: `tenant` becomes the default tenant; without `steps` and `epochs` one epoch is meant.
    Raises ValueError for an unknown key, a wrong type or a value out of range.
    """
    return _spec(mapping, strict=True)


def _spec(mapping: Mapping[str, Any], *, strict: bool) -> TrainingSpec:
    check_keys(mapping, TrainingSpec)
    completed = dict(mapping)
    completed["auto"] = _auto(completed.get("auto"))
    if completed.get("steps") is None and completed.get("epochs") is None:
        completed["epochs"] = 1
    if completed.get("optimizer") == "gd":
        completed["batch_tokens"] = None
    spec: TrainingSpec = convert(completed, TrainingSpec, strict=strict)
    check_spec(spec)
    return spec


def _auto(given: Any) -> Any:
    """`auto: true` asks for a search with nothing but defaults."""
    if isinstance(given, bool):
        return {} if given else None
    if isinstance(given, Mapping):
        known = tuple(field.name for field in fields(AutoTraining))
        wished = cast(Mapping[str, Any], given)
        for key in wished:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"unknown key {key!r} under auto in a training spec; {hint}")
        return wished
    return given


def check_spec(spec: TrainingSpec) -> None:
    """Whether a spec can be run at all, as far as its values tell.

    Raises ValueError with the field, its value and what was expected.
    """
    check_common(spec)
    if spec.method not in tuple(Method):
        refuse("method", spec.method, f"one of {', '.join(Method)}")
    _check_optimizer(spec.optimizer)
    if (spec.steps is None) == (spec.epochs is None):
        raise ValueError(
            f"steps is {spec.steps} and epochs is {spec.epochs}; give exactly one of them"
        )
    check_number("steps", spec.steps, low=1, high=10_000_000)
    check_number("epochs", spec.epochs, low=0, high=10_000, open_low=True)
    check_number("learning_rate", spec.learning_rate, low=0, high=1000, open_low=True)
    check_number("sequence_tokens", spec.sequence_tokens, low=16, high=8192)
    check_number("micro_batch", spec.micro_batch, low=1, high=1024)
    check_number("batch_tokens", spec.batch_tokens, low=1, high=2**31)
    if spec.batch_tokens is not None and spec.batch_tokens < spec.sequence_tokens:
        refuse(
            "batch_tokens", spec.batch_tokens, f"at least sequence_tokens ({spec.sequence_tokens})"
        )
    check_number("lora_rank", spec.lora_rank, low=1, high=1024)
    check_number("lora_alpha", spec.lora_alpha, low=0, high=65_536, open_low=True)
    if spec.lora_targets not in tuple(LoraTargets):
        refuse("lora_targets", spec.lora_targets, f"one of {', '.join(LoraTargets)}")
    check_number("patience", spec.patience, low=1, high=10_000)
    check_number("warmup", spec.warmup, low=0, high=0.5)
    check_number("weight_decay", spec.weight_decay, low=0, high=1)
    check_number("held_out", spec.held_out, low=0, high=0.5, open_low=True)
    check_number("eval_every", spec.eval_every, low=1, high=10_000_000)
    check_number("checkpoint_every", spec.checkpoint_every, low=1, high=10_000_000)
    check_number("seed", spec.seed, low=0, high=2**63 - 1)
    if spec.precision not in PRECISIONS:
        refuse("precision", spec.precision, f"one of {', '.join(PRECISIONS)}")
    if spec.auto is not None:
        check_auto(spec, spec.auto)


def _check_optimizer(name: str) -> None:
    if name not in OPTIMIZER_NAMES:
        near = difflib.get_close_matches(name, OPTIMIZER_NAMES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        refuse("optimizer", name, f"one of {', '.join(OPTIMIZER_NAMES)}{hint}")
    if name == "adamw8bit" and not has_low_bit():
        raise ValueError(
            "optimizer is 'adamw8bit', which needs bitsandbytes; install meted[low-bit] and start "
            "the house again, or take adamw"
        )


def has_low_bit() -> bool:
    """Whether the library of 8-bit optimizers is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None
