"""The real engine under each setting: it keeps to the rules, and the setting is in force."""

import random
from pathlib import Path
from typing import Any

import pytest

from meted.domain.engine_settings import (
    CachePrecision,
    EngineSettings,
    Speculation,
    draft_model,
    prompt_lookup,
)
from meted.domain.request import EngineRequest, Sampling, TextPrompt
from meted.domain.step import Step
from meted.domain.units import RequestId
from meted.live.checkpoints import CheckpointRegistry
from meted.testing.check_engine import check_engine

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

WORDS = ("apple", "river", "stone", "cloud", "model", "price", "token", "share", "night")


@pytest.fixture(scope="module")
def folder(smollm2: CheckpointRegistry) -> Path:
    return smollm2.get("smollm2-135m").folder


def load(folder: Path, settings: EngineSettings, *, max_batch: int = 3) -> Any:
    from meted.live.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(folder=folder, threads=2, max_batch=max_batch, settings=settings)


def make(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
    return EngineRequest(
        request_id=request_id, prompt=TextPrompt(text="word " * tokens), sampling=sampling
    )


def answer(engine: Any, name: str, prompt: str, *, tokens: int = 12) -> tuple[int, list[Step]]:
    """Prompt tokens, and the steps that the request took."""
    sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    request = EngineRequest(
        request_id=RequestId(name), prompt=TextPrompt(text=prompt), sampling=sampling
    )
    counted = engine.add(request)
    steps: list[Step] = []
    while engine.busy:
        steps.append(engine.step())
    return counted, steps


def some_words(seed: int, count: int) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(count))


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(speculation=prompt_lookup()),
        EngineSettings(speculation=draft_model("smollm2-135m", tokens=3)),
        EngineSettings(chunk_tokens=48, prefix_cache=False, cache=CachePrecision.FP16),
        EngineSettings(cache=CachePrecision.INT4, context_tokens=600),
    ],
    ids=["prompt-lookup", "draft", "chunk-fp16", "int4-context"],
)
def test_it_conforms_under(folder: Path, settings: EngineSettings):
    check_engine(load(folder, settings), make_request=make)


@pytest.mark.parametrize(
    "speculation", [prompt_lookup(), draft_model("smollm2-135m")], ids=["prompt-lookup", "draft"]
)
def test_tokens_accepted_together_are_all_counted(folder: Path, speculation: Speculation):
    engine = load(folder, EngineSettings(speculation=speculation))
    _, steps = answer(engine, "again", "one two three four one two three four one two", tokens=32)
    decoded = [share.decode_tokens for step in steps for share in step.shares]
    assert sum(decoded) == 32
    assert max(decoded) > 1 and len(decoded) < 32
    # The first answer token comes with the prompt; the last is never put into the cache.
    (last,) = steps[-1].shares
    prompt = sum(share.prefill_tokens for step in steps for share in step.shares)
    assert last.context_tokens == prompt + 31


def test_a_chunk_bounds_the_prompt_tokens_of_a_step(folder: Path):
    engine = load(folder, EngineSettings(chunk_tokens=64))
    counted, steps = answer(engine, "long", some_words(1, 150), tokens=1)
    computed = [share.prefill_tokens for step in steps for share in step.shares]
    assert computed == [64] * (counted // 64) + [counted % 64]


@pytest.mark.parametrize("kept", [True, False])
def test_a_prompt_is_found_again_only_with_the_prefix_cache(folder: Path, kept: bool):
    engine = load(folder, EngineSettings(prefix_cache=kept))
    prompt = some_words(2, 120)
    counted, _ = answer(engine, "first", prompt)
    _, steps = answer(engine, "second", prompt)
    cached = sum(share.cached_tokens for step in steps for share in step.shares)
    # The answer has grown the last block, which is then found under another name.
    assert cached == (counted // 32 * 32 if kept else 0)
    assert steps[0].cache_usage == pytest.approx(
        engine._pipeline.get_metrics().cache_usage / 100, abs=1e-2
    )


def test_precision_and_size_of_the_cache_say_how_much_it_holds(folder: Path):
    whole = load(folder, EngineSettings(cache=CachePrecision.FP16))._mirror._store.total
    half = load(folder, EngineSettings(cache=CachePrecision.INT8))._mirror._store.total
    twice = load(folder, EngineSettings(cache=CachePrecision.FP16, cache_gib=2))
    assert half > 1.5 * whole
    assert twice._mirror._store.total == pytest.approx(2 * whole, rel=0.02)


def test_a_draft_of_another_vocabulary_is_refused(folder: Path, minilm: CheckpointRegistry):
    with pytest.raises(ValueError, match="all-minilm-l6-v2"):
        load(folder, EngineSettings(speculation=draft_model("all-minilm-l6-v2")))
