"""A search of variants as a job: levers that are done stay done; it stops and waits as told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.search_job import VariantSearch
from meted.domain.units import JobName, TenantName
from meted.live.checkpoints import CheckpointRegistry
from meted.live.job_folder import read_result
from meted.live.variants.worker import TRIED, run_variants
from meted.live.wire import (
    Checkpointed,
    Failed,
    Finished,
    Pause,
    Paused,
    PhaseChanged,
    Planned,
    Resume,
    Stop,
)
from meted.testing.recording_link import RecordingLink

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

NAMES = ("gguf-q8_0", "gguf-q5_1")


@pytest.fixture
def spec(tmp_path: Path) -> VariantSearch:
    text = tmp_path / "text"
    text.mkdir()
    for n in range(64):
        words = " ".join(f"In year {n * k} the house paid {n + k} dollars." for k in range(9))
        (text / f"{n}.txt").write_text(words)
    return VariantSearch(
        name=JobName("variants"),
        base="smollm2-135m",
        data=str(text),
        tenant=TenantName("acme"),
        levers=NAMES,
        most_loss_increase=1.0,
        blocks=20,
        questions=4,
    )


def run(spec: VariantSearch, registry: CheckpointRegistry, link: RecordingLink, job: Path) -> int:
    return run_variants(spec, registry_folder=registry.folder, workdir=job, threads=2, link=link)


def test_after_an_order_to_stop_the_next_process_tries_only_what_is_left(
    spec: VariantSearch, smollm2: CheckpointRegistry, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    first = RecordingLink(after={Checkpointed: [Stop()]})
    try:
        assert run(spec, smollm2, first, job) == 0
        assert [frame.step for frame in first.of(Checkpointed)] == [1]
        assert first.of(Planned)[0].total_steps == 2
        assert first.of(PhaseChanged), "loading ends where the first lever begins"
        assert not first.of(Finished) and read_result(job) is None
        tried = json.loads((job / TRIED).read_text())
        assert list(tried) == [NAMES[0]]

        # Were it tried again, it would be found made already, and not be new.
        second = RecordingLink(after={PhaseChanged: [Pause()], Paused: [Resume()]})
        assert run(spec, smollm2, second, job) == 0
        assert second.of(Planned)[0].first_step == 1
        assert [frame.step for frame in second.of(Paused)] == [1]
        assert [frame.step for frame in second.of(Checkpointed)] == [2]
        assert len(second.of(Finished)) == 1
        found = read_result(job)
        assert [(one["lever"], one["new"]) for one in found["trials"]] == [
            (name, True) for name in NAMES
        ]
        assert found["trials"][0] == tried[NAMES[0]][0]
        assert smollm2.has("smollm2-135m--gguf-q8_0") and smollm2.has("smollm2-135m--gguf-q5_1")
    finally:
        for name in NAMES:
            smollm2.remove(f"smollm2-135m--{name}")


def test_what_is_wrong_reaches_the_user_as_a_sentence(
    spec: VariantSearch, smollm2: CheckpointRegistry, tmp_path: Path
) -> None:
    small = tmp_path / "small.txt"
    small.write_text("Too little.")
    link = RecordingLink()
    assert run(replace(spec, data=str(small)), smollm2, link, tmp_path / "job") == 1
    assert "documents" in link.of(Failed)[0].message
