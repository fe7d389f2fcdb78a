"""`meted optimise model`: refusals come before work, and a table says what became of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from meted.cli.optimise_tables import print_trials
from meted.domain.levers import parse_lever
from meted.live.checkpoints.quality import FineTuneKept, Quality, TextQuality
from meted.live.variants.searching import plain
from meted.live.variants.trials import Trial
from meted.predict.estimate import Estimate


def estimate(value: float, half: float = 0.01) -> Estimate:
    return Estimate(low=value - half, expected=value, high=value + half, level=0.95)


TEXT = TextQuality(
    text="notes",
    documents=24,
    tokens=6000,
    loss=estimate(2.5),
    loss_increase=estimate(0.034),
    kl=estimate(0.02),
    same_top=estimate(0.91),
)


def trial(name: str, *, passed: bool, kept: bool = False) -> Trial:
    quality = Quality(
        parent="mother",
        text=TEXT,
        accuracy=estimate(0.8, 0.1),
        parent_accuracy=estimate(0.8, 0.1),
        questions=60,
        passed=passed,
        reason="loss increase 0.034",
        fine_tune=FineTuneKept(gain=0.31, lost=0.5, quality=TEXT),
    )
    return Trial(
        lever=name,
        name=f"mother--{name}",
        parent="mother",
        step=parse_lever(name).steps[0][1],
        weight_bytes=135_200_000,
        quality=quality,
        making_seconds=40.2,
        measuring_seconds=50.1,
        registered=passed or kept,
    )


def test_the_table_has_numbers_and_verdicts_and_the_reasons_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = Trial(
        lever="heads-9",
        name="mother--heads-9",
        parent="mother",
        step=parse_lever("heads-9").steps[0][1],
        problem="too few heads",
    )
    rejected = trial("int4-g64", passed=False)
    print_trials(plain([trial("int8", passed=True), rejected, failed]), keep=False)
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert rows[1][:4] == ["mother--int8", "135.2", "2.500", "±0.010"]
    assert "+0.0340" in rows[1] and "91.0%" in rows[1] and rows[1][-2:] == ["passed", "90"]
    assert rows[2][-2:] == ["rejected", "90"]
    assert rows[3][-3:-1] == ["not", "made"]
    assert "mother--heads-9: too few heads" in said
    assert "of the fine-tune's gain of 0.310 it gave up 50%" in said
    assert "serve one: meted deploy mother--int8" in said


def test_a_rejected_variant_that_was_kept_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_trials(plain([trial("int4", passed=False, kept=True)]), keep=True)
    assert "rejected, kept" in capsys.readouterr().out


def test_json_holds_all_of_a_trial() -> None:
    found: dict[str, Any] = json.loads(json.dumps(plain([trial("int4-g64", passed=False)])))[0]
    assert (found["kind"], found["step"]["group_size"]) == ("quantise", 64)
    assert found["quality"]["text"]["loss_increase"]["expected"] == 0.034
    assert found["registered"] is False


def test_a_lever_that_does_not_exist_is_a_wrong_option(run: Any, tmp_path: Path) -> None:
    result = run("optimise", "model", "mother", "--data", str(tmp_path), "--levers", "int8,int5")
    assert result.exit_code == 2
    assert "'int5'" in result.output and "int4[-sym]" in result.output


def test_a_checkpoint_that_does_not_exist_is_named(run: Any, tmp_path: Path) -> None:
    result = run(
        *("optimise", "model", "mother", "--data", str(tmp_path)),
        env={"METED_HOME": str(tmp_path / "home")},
    )
    assert result.exit_code == 1
    assert "there is no checkpoint 'mother'" in result.output
