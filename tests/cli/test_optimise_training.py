"""`meted optimise training`: what is handed in, and what is said of the trials."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from meted.cli.optimise_training import chosen_spec, report, show, spec_yaml, training
from meted.domain.job import AutoTraining
from meted.live.training.spec import load_spec_yaml, spec_from_mapping
from meted.live.training.trial_log import Begun, Ended, Rung, Trail

BASE = spec_from_mapping(
    {"name": "night", "base": "a", "data": "/texts", "steps": 20, "learning_rate": 1e-3}
)
TRIALS = {
    "adamw": BASE,
    "lion": replace(BASE, optimizer="lion", learning_rate=2e-4, lora_rank=4),
    "sgd": replace(BASE, optimizer="sgd", learning_rate=0.5),
}


def rung(trial: str, rung: int, loss: float | None, cost: int, failed: str | None = None) -> Rung:
    return Rung(
        trial=trial,
        rung=rung,
        step=2 * 3**rung,
        tokens=100,
        loss=loss,
        nanos=cost * 180_000,
        cost=cost,
        spent=4_000_000_000,
        reached=cost if loss is not None and loss < 2.6 else None,
        reached_step=2 * 3**rung if loss is not None and loss < 2.6 else None,
        failed=failed,
    )


TRAIL = Trail(
    begun=Begun(
        at=0.0,
        price=20_000_000,
        budget=5_000_000,
        first=10_000,
        eta=3,
        rungs=2,
        rows=8,
        before=3.1,
        rate="usual rate 0.001",
        nanos=0,
        auto=AutoTraining(),
        trials=TRIALS,
    ),
    rungs=(
        rung("adamw", 0, 2.9, 10_000),
        rung("sgd", 0, None, 5_000, failed="the loss is nan"),
        rung("lion", 0, 2.8, 10_000),
        rung("lion", 1, 2.5, 30_000),
    ),
    ended=Ended(
        best="lion", why="every trial that is worth it has been trained", spent=5, seconds=1
    ),
)


def test_people_see_every_trial_why_it_stopped_and_the_chosen_spec(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(TRAIL)
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert "3.1000; usual rate 0.001" in lines[0]
    assert lines[2].split()[:2] == ["lion", "lion"] and lines[2].endswith("chosen")
    assert "$0.000030000  $0.000030000" in lines[2]
    assert "rung 1: 2.8000 or less went on" in said
    assert "the loss is nan" in said
    assert "adamw loses: held-out 2.9000 for 1.8 core-seconds, lion 2.8000 for 1.8" in said
    assert "sgd loses: no trial has a loss" in said
    assert "optimizer: lion" in said


def test_the_chosen_yaml_is_a_spec_for_train(tmp_path: Path) -> None:
    chosen = chosen_spec(TRAIL)
    assert chosen is not None
    file = tmp_path / "chosen.yaml"
    file.write_text(spec_yaml(TRAIL, chosen))
    assert "# Its target was reached at step 6." in file.read_text()
    read = load_spec_yaml(file)
    assert read == replace(TRIALS["lion"], name="night-chosen")


def test_the_report_is_json(tmp_path: Path) -> None:
    said = report(TRAIL, {"name": "night", "status": "done", "error": None})
    said = json.loads(json.dumps(said))
    assert said["trials"][0]["trial"] == "lion"
    assert said["trials"][0]["to_target_nano_usd"] == 30_000
    assert said["chosen"]["optimizer"] == "lion"
    assert len(said["losers"]) == 2


def test_a_search_that_has_not_begun_shows_nothing() -> None:
    empty = Trail(begun=None, rungs=(), ended=None)
    assert chosen_spec(empty) is None
    assert report(empty, {"name": "n", "status": "failed", "error": "e"})["trials"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--deadline", "0m"), "no length of time"),
        (("--levers", "optimiser"), "expected some of optimizer, rate"),
        (("--budget-usd", "much"), "expected dollars"),
        (("--finder", "luck"), "range"),
    ],
)
def test_wrong_words_are_usage_errors(arguments: tuple[str, ...], words: str) -> None:
    said = CliRunner().invoke(training, ["a", "--data", "b", *arguments])
    assert said.exit_code == 2
    assert words in said.stderr
