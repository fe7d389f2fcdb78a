from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.job import TrainingSpec
from meted.live.job_folder import claim
from meted.live.training.errors import TrainingError
from meted.live.training.worker import run_job
from meted.live.wire import Failed

from .conftest import Recorder


def test_what_is_wrong_reaches_the_user_as_a_sentence(tmp_path: Path, spec: TrainingSpec) -> None:
    house = Recorder()
    status = run_job(
        spec=replace(spec, base="nothing"),
        registry_folder=tmp_path,
        workdir=tmp_path / "job",
        threads=1,
        link=house,
    )
    assert status == 1
    assert "there is no checkpoint 'nothing'" in house.of(Failed)[0].message


def test_a_folder_belongs_to_one_spec(tmp_path: Path, spec: TrainingSpec) -> None:
    claim(tmp_path / "job", spec)
    claim(tmp_path / "job", spec)
    with pytest.raises(TrainingError, match="begun with another spec; choose another name"):
        claim(tmp_path / "job", replace(spec, seed=9))
