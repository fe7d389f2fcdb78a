"""What of an engine's settings cannot be, by key; and that they survive the store."""

from typing import Any

import msgspec
import pytest

from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
from meted.domain.engine_choice import OF_TASK, check_settings, engine_for
from meted.domain.engine_settings import (
    CachePrecision,
    EngineSettings,
    Speculation,
    SpeculationKind,
    draft_model,
    prompt_lookup,
)
from meted.domain.units import DeploymentName


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"chunk_tokens": 0}, "chunk_tokens"),
        ({"cache_gib": 0}, "cache_gib"),
        ({"threads": 0}, "threads"),
        ({"context_tokens": 1}, "context_tokens"),
    ],
)
def test_a_number_out_of_range_is_named(given: dict[str, Any], key: str):
    with pytest.raises(ValueError, match=rf"^{key} is "):
        EngineSettings(**given)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"kind": SpeculationKind.DRAFT}, "checkpoint"),
        ({"kind": SpeculationKind.DRAFT, "checkpoint": "a", "ngram": 3}, "ngram"),
        ({"kind": SpeculationKind.PROMPT_LOOKUP, "checkpoint": "a"}, "checkpoint"),
        ({"kind": SpeculationKind.PROMPT_LOOKUP, "tokens": 0}, "tokens"),
        ({"kind": SpeculationKind.PROMPT_LOOKUP, "ngram": 0}, "ngram"),
    ],
)
def test_speculation_takes_what_its_kind_needs_and_no_more(given: dict[str, Any], key: str):
    with pytest.raises(ValueError, match=rf"^speculation\.{key} is "):
        Speculation(**given)


@pytest.mark.parametrize(
    ("settings", "task", "told"),
    [
        (EngineSettings(engine="vllm"), Task.GENERATE, "engine is 'vllm'"),
        (EngineSettings(engine="embedding"), Task.GENERATE, "engine is 'embedding'"),
        (EngineSettings(engine="llamacpp"), Task.EMBED, "engine is 'llamacpp'"),
        (EngineSettings(speculation=prompt_lookup()), Task.EMBED, "speculation is"),
        (EngineSettings(cache=CachePrecision.INT8), Task.EMBED, "cache is"),
        (
            EngineSettings(chunk_tokens=5, speculation=prompt_lookup(tokens=5)),
            Task.GENERATE,
            "chunk_tokens is 5",
        ),
    ],
)
def test_what_no_engine_of_the_task_can_run_is_refused(
    settings: EngineSettings, task: Task, told: str
):
    with pytest.raises(ValueError, match=told):
        check_settings(settings, task=task)


@pytest.mark.parametrize(
    ("settings", "task"),
    [
        (EngineSettings(), Task.EMBED),
        (EngineSettings(threads=1, context_tokens=64), Task.EMBED),
        (EngineSettings(engine="llamacpp", speculation=draft_model("small")), Task.GENERATE),
        (EngineSettings(engine="my.engine:Factory", cache_gib=7), Task.EMBED),
    ],
)
def test_what_can_be_run_is_let_through(settings: EngineSettings, task: Task):
    check_settings(settings, task=task)


def test_the_engine_is_that_of_the_task_unless_named():
    for task, engine in OF_TASK.items():
        assert engine_for(EngineSettings(), task) == engine
    assert engine_for(EngineSettings(engine="llamacpp"), Task.GENERATE) == "llamacpp"


@pytest.mark.parametrize("speculation", [None, prompt_lookup(ngram=2), draft_model("small")])
def test_a_deployment_keeps_its_settings_through_the_store(speculation: Speculation | None):
    settings = EngineSettings(cache=CachePrecision.INT4, speculation=speculation, threads=2)
    deployment = Deployment(
        name=DeploymentName("a"),
        checkpoint="b",
        task=Task.GENERATE,
        replicas=1,
        slo=DEFAULT_SLO,
        max_batch=4,
        max_queue=4,
        settings=settings,
    )
    stored = msgspec.json.encode(deployment)
    assert msgspec.json.decode(stored, type=Deployment) == deployment


def test_a_deployment_stored_before_there_were_settings_has_the_defaults():
    body = {
        **{"name": "a", "checkpoint": "b", "task": "generate", "replicas": 1},
        **{"slo": {"ttft_p95": 1, "tpot_p95": 1}, "max_batch": 4, "max_queue": 4},
    }
    assert msgspec.convert(body, Deployment).settings == EngineSettings()
