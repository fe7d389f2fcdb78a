from pathlib import Path

import yaml

from meted.domain.job import LoraTargets, TrainingSpec
from meted.live.training.spec import load_spec_yaml
from meted.live.training.trial_log import LOG, Ended, Rung, TrialLog, spec_mapping

RUNG = Rung(
    trial="a", rung=0, step=3, tokens=30, loss=None, nanos=5, cost=7, spent=9, failed="it is lost"
)


def test_lines_come_back_as_written(tmp_path: Path) -> None:
    log = TrialLog(tmp_path)
    assert log.read().begun is None and log.read().rungs == ()
    log.append(RUNG)
    log.append(Ended(best="a", why="no money", spent=12, seconds=3.5))
    trail = TrialLog(tmp_path).read()
    assert trail.rungs == (RUNG,)
    assert trail.last == {"a": RUNG}
    assert trail.ended is not None and trail.spent == 12


def test_a_line_that_a_crash_cut_off_counts_for_nothing_and_is_overwritten(tmp_path: Path) -> None:
    log = TrialLog(tmp_path)
    log.append(RUNG)
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"type":"rung","trial":"b"')
    assert log.read().rungs == (RUNG,)
    second = Rung(trial="b", rung=0, step=1, tokens=1, loss=2.5, nanos=1, cost=1, spent=10)
    log.append(second)
    assert TrialLog(tmp_path).read().rungs == (RUNG, second)


def test_a_spec_as_yaml_is_the_spec(tmp_path: Path) -> None:
    spec = TrainingSpec(
        name="best",
        base="smollm2-135m",
        data="/texts",
        tenant="default",
        optimizer="lion",
        learning_rate=1e-4,
        steps=30,
        lora_targets=LoraTargets.ATTENTION,
    )
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(spec_mapping(spec)))
    assert load_spec_yaml(tmp_path / "best.yaml") == spec
    assert "tenant" not in spec_mapping(spec)
