"""Settings against the checkpoints that are there, and the worker that they lead to."""

from pathlib import Path

import msgspec
import pytest

from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
from meted.domain.engine_settings import (
    CachePrecision,
    EngineSettings,
    draft_model,
    prompt_lookup,
)
from meted.domain.units import DeploymentName, ReplicaId
from meted.live.checkpoints import CheckpointError, CheckpointRegistry
from meted.live.checkpoints.checkpoint import Description, write_description
from meted.live.engine_settings import check_served_settings
from meted.live.replica_start import predicted_as, replica_spec


@pytest.fixture
def registry(tmp_path: Path) -> CheckpointRegistry:
    for name, task in (("chat", Task.GENERATE), ("vectors", Task.EMBED)):
        (tmp_path / name).mkdir()
        write_description(
            tmp_path / name,
            Description(
                task=task,
                architecture="llama",
                context_tokens=512,
                parameters=1,
                weight_bytes=1,
                source="here",
                base=None,
                created=0,
                held_out={},
            ),
        )
    return CheckpointRegistry(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (EngineSettings(threads=3), "threads is 3, but the pool has 2 cores"),
        (EngineSettings(context_tokens=513), "context_tokens is 513"),
        (EngineSettings(speculation=draft_model("vectors")), "'vectors', which does not generate"),
        (EngineSettings(engine="vllm"), "engine is 'vllm'"),
        (EngineSettings(engine="llamacpp"), "'chat' comes from here; import the model's GGUF"),
        (EngineSettings(), "reads OpenVINO IR, and 'chat' has none"),
    ],
)
def test_what_these_checkpoints_and_cores_cannot_run_is_refused(
    registry: CheckpointRegistry, settings: EngineSettings, told: str
):
    with pytest.raises(ValueError, match=told):
        check_served_settings(settings, checkpoint="chat", registry=registry, cores=2)


def test_a_draft_that_is_not_there_is_named(registry: CheckpointRegistry):
    settings = EngineSettings(speculation=draft_model("gone"))
    with pytest.raises(CheckpointError, match="no checkpoint 'gone'"):
        check_served_settings(settings, checkpoint="chat", registry=registry, cores=2)


def make(settings: EngineSettings) -> Deployment:
    return Deployment(
        name=DeploymentName("chat"),
        checkpoint="weights",
        task=Task.GENERATE,
        replicas=1,
        slo=DEFAULT_SLO,
        max_batch=4,
        max_queue=4,
        settings=settings,
    )


@pytest.mark.parametrize(("wished", "given"), [(None, "2"), (1, "1")])
def test_a_worker_is_told_all_settings_and_threads_of_its_own_win(wished: int | None, given: str):
    settings = EngineSettings(engine="llamacpp", threads=wished, speculation=prompt_lookup())
    spec = replica_spec(
        make(settings), replica=ReplicaId("r"), threads=2, devices=(0, 1), checkpoints=Path("/c")
    )
    said = dict(zip(spec.arguments[2::2], spec.arguments[3::2], strict=True))
    assert (said["--engine"], said["--threads"]) == ("llamacpp", given)
    assert said["--folder"] == "/c/weights"
    assert msgspec.json.decode(said["--settings"], type=EngineSettings) == settings


@pytest.mark.parametrize(
    ("settings", "own"),
    [
        (EngineSettings(), True),
        (EngineSettings(chunk_tokens=64), True),
        (EngineSettings(cache=CachePrecision.FP16), False),
        (EngineSettings(speculation=prompt_lookup()), False),
        (EngineSettings(engine="llamacpp"), False),
    ],
)
def test_a_calibration_is_kept_only_of_steps_that_cost_alike(settings: EngineSettings, own: bool):
    assert (predicted_as(make(settings)) == "openvino") is own
