import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meted.domain.job import AutoTraining, Method, TrainingSpec
from meted.live.training.optimizers import OPTIMIZERS
from meted.live.training.spec import (
    OPTIMIZER_NAMES,
    check_spec,
    has_low_bit,
    load_spec_yaml,
    spec_from_mapping,
)

LEAST = {"name": "tuned", "base": "smollm2-135m", "data": "/texts"}
GOOD = TrainingSpec(name="tuned", base="b", data="d", tenant="t", steps=1)


def test_the_spec_needs_no_torch() -> None:
    code = "import sys, meted.live.training.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_named_optimizer_exists() -> None:
    assert tuple(OPTIMIZERS) == OPTIMIZER_NAMES


def test_without_steps_and_epochs_one_epoch_is_meant() -> None:
    spec = spec_from_mapping(LEAST)
    assert (spec.steps, spec.epochs) == (None, 1)
    assert spec.tenant == "default"


def test_auto_is_a_search_with_or_without_wishes() -> None:
    assert spec_from_mapping(LEAST).auto is None
    assert spec_from_mapping({**LEAST, "auto": False}).auto is None
    assert spec_from_mapping({**LEAST, "auto": True}).auto == AutoTraining()
    wished = spec_from_mapping({**LEAST, "auto": {"levers": ["rate"], "trials": 4}}).auto
    assert wished == AutoTraining(levers=("rate",), trials=4)


def test_eight_bits_need_their_library() -> None:
    spec = replace(GOOD, optimizer="adamw8bit")
    if has_low_bit():
        check_spec(spec)
    else:
        with pytest.raises(ValueError, match=r"install meted\[low-bit\]"):
            check_spec(spec)


def test_gd_has_no_batch() -> None:
    assert spec_from_mapping({**LEAST, "optimizer": "gd"}).batch_tokens is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "../up"}, "name is '../up'"),
        ({"name": ""}, "name is ''"),
        ({"base": " "}, "base is ' '"),
        ({"optimizer": "admw"}, "did you mean 'adamw'"),
        ({"steps": None}, "exactly one"),
        ({"epochs": 1.0}, "exactly one"),
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"steps": None, "epochs": 0.0}, "epochs is 0.0, expected more than 0"),
        ({"steps": None, "epochs": float("nan")}, "epochs is nan"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"sequence_tokens": 15}, "sequence_tokens is 15, expected at least 16 and at most 8192"),
        ({"sequence_tokens": 8193}, "sequence_tokens"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"batch_tokens": 255}, "at least sequence_tokens"),
        ({"lora_rank": 0}, "lora_rank"),
        ({"warmup": 0.6}, "warmup"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"held_out": 0.0}, "held_out"),
        ({"held_out": 0.51}, "held_out"),
        ({"eval_every": 0}, "eval_every"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"seed": -1}, "seed"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of auto, fp32, bf16"),
        ({"method": "qlora"}, "method is 'qlora', expected one of lora, full"),
        ({"lora_alpha": 0.0}, "lora_alpha is 0.0, expected more than 0"),
        ({"lora_targets": "heads"}, "lora_targets is 'heads', expected one of all, attention, mlp"),
        ({"patience": 0}, "patience is 0, expected at least 1"),
        ({"auto": AutoTraining(levers=())}, "auto.levers is empty"),
        ({"auto": AutoTraining(levers=("rte",))}, "auto.levers has 'rte'.*did you mean 'rate'"),
        ({"auto": AutoTraining(trials=0)}, "auto.trials is 0, expected 1 to 1000"),
        ({"auto": AutoTraining(budget=0)}, "auto.budget is 0"),
        ({"auto": AutoTraining(deadline_s=0.0)}, "auto.deadline_s is 0.0"),
        ({"auto": AutoTraining(target_loss=float("inf"))}, "auto.target_loss is inf"),
        (
            {"method": Method.FULL, "auto": AutoTraining(levers=("rank",))},
            "which method full does not have",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(
    changes: dict[str, Any], expected: str
) -> None:
    check_spec(GOOD)
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")):
        check_spec(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({**LEAST, "optimiser": "sgd"}, "unknown key 'optimiser'.*did you mean 'optimizer'"),
        ({**LEAST, "zzz": 1}, "unknown key 'zzz'.*known: name, base"),
        ({"name": "tuned"}, "needs base and data"),
        ({**LEAST, "steps": "ten"}, "Expected `int | null`"),
        ({**LEAST, "method": "qlora"}, "method"),
        ({**LEAST, "auto": {"trils": 3}}, "unknown key 'trils' under auto.*mean 'trials'"),
        ({**LEAST, "auto": 3}, r"Expected `object \| null`"),
    ],
)
def test_an_unknown_key_or_type_is_an_error(mapping: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        spec_from_mapping(mapping)


def test_a_yaml_file_is_a_spec(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: tuned\nmodel: smollm2-135m\ndata: texts\nlearning_rate: 1e-4\nmethod: full\n"
    )
    spec = load_spec_yaml(path)
    assert spec.base == "smollm2-135m"
    assert spec.learning_rate == 1e-4
    assert spec.method is Method.FULL
    assert spec.data == str(tmp_path / "texts"), "relative to the file"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "holds no keys"),
        ("- a\n", "holds no keys"),
        ("a: [", "not a YAML file"),
        ("name: a\nmodel: b\nbase: b\ndata: c\n", "both model and base"),
        ("name: a\nmodel: b\ndata: c\nstps: 3\n", "job.yaml: unknown key 'stps'"),
    ],
)
def test_a_bad_yaml_file_is_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=expected):
        load_spec_yaml(path)


def test_a_missing_yaml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the spec .*job\.yaml"):
        load_spec_yaml(tmp_path / "job.yaml")


def test_the_example_is_a_spec() -> None:
    example = Path(__file__).parents[3] / "examples" / "finetune.yaml"
    spec = load_spec_yaml(example)
    assert Path(spec.data).exists()
