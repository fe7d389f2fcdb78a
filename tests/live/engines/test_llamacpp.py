"""llama.cpp with the real built-in model: the rules, and each setting in force."""

from collections.abc import Iterator
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
from meted.domain.request import (
    ChatPrompt,
    EngineRequest,
    FinishReason,
    Message,
    RequestRejectedError,
    Sampling,
    TextPrompt,
)
from meted.domain.step import Step
from meted.domain.units import RequestId
from meted.live.checkpoints import CheckpointRegistry
from meted.testing.check_engine import check_engine

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

GREEDY = Sampling(max_tokens=12, temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(smollm2: CheckpointRegistry) -> Path:
    return smollm2.get("smollm2-135m").folder


def load(folder: Path, settings: EngineSettings) -> Any:
    from meted.live.engines.llamacpp import LlamaCppEngine

    return LlamaCppEngine(folder=folder, threads=2, max_batch=2, settings=settings)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    loaded = load(folder, EngineSettings(chunk_tokens=64, context_tokens=512))
    yield loaded
    loaded.close()


def make(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
    prompt = TextPrompt(text="word " * tokens)
    return EngineRequest(request_id=request_id, prompt=prompt, sampling=sampling)


def ask(engine: Any, text: str, sampling: Sampling = GREEDY) -> tuple[int, list[Step]]:
    request = EngineRequest(
        request_id=RequestId("asked"), prompt=TextPrompt(text=text), sampling=sampling
    )
    counted = engine.add(request)
    steps: list[Step] = []
    while engine.busy:
        steps.append(engine.step())
    return counted, steps


def text_of(steps: list[Step]) -> str:
    return "".join(one.text for step in steps for one in step.outputs)


def test_it_conforms(engine: Any):
    check_engine(engine, make_request=make)


def test_the_answer_is_that_of_llamas_own_chat(engine: Any):
    """Template, tokens and samplers are those of the checkpoint, so greedy answers are equal."""
    question = Message(role="user", content="What is the capital of France?")
    sampling = Sampling(max_tokens=12, temperature=0.0, ignore_eos=True)
    engine.add(
        EngineRequest(
            request_id=RequestId("q"), prompt=ChatPrompt(messages=(question,)), sampling=sampling
        )
    )
    steps: list[Step] = []
    while engine.busy:
        steps.append(engine.step())
    assert all(step.shares or step.outputs for step in steps)
    body = {
        "messages": [{"role": "user", "content": question.content}],
        **{"max_tokens": 12, "temperature": 0.0, "ignore_eos": True},
    }
    own = engine._server.handle_chat_completions(body)
    assert text_of(steps) == own["choices"][0]["message"]["content"]


def test_a_prompt_is_read_in_chunks_and_found_again(engine: Any):
    text = " ".join(str(number) for number in range(90))
    counted, first = ask(engine, text)
    shares = [share for step in first for share in step.shares]
    assert max(share.prefill_tokens for share in shares) == 64
    _, again = ask(engine, text)
    cached = sum(share.cached_tokens for step in again for share in step.shares)
    assert cached == counted - 1
    assert text_of(first) == text_of(again)


def test_penalties_reach_the_sampler(engine: Any):
    harsh = Sampling(max_tokens=12, temperature=0.0, frequency_penalty=2.0, ignore_eos=True)
    assert text_of(ask(engine, "a b a b a b a b")[1]) != text_of(
        ask(engine, "a b a b a b a b", harsh)[1]
    )


def test_requests_that_the_cache_is_not_sure_to_hold_wait_their_turn(engine: Any):
    room = engine._room
    engine._room = type(room)(total=room.context, context=room.context, shared=True)
    try:
        long = Sampling(max_tokens=300, temperature=0.0, ignore_eos=True)
        for name in ("one", "two"):
            engine.add(make(RequestId(name), tokens=8, sampling=long))
        engine.step()
        assert list(engine._running) == ["one"] and len(engine._waiting) == 1
        engine.cancel(RequestId("one"))
        ends = [one for one in engine.step().outputs if one.finish_reason]
        assert [(one.request_id, one.finish_reason) for one in ends] == [
            ("one", FinishReason.CANCELLED)
        ]
        engine.cancel(RequestId("two"))
        while engine.busy:
            engine.step()
    finally:
        engine._room = room


def test_min_tokens_below_the_limit_is_refused_by_name(engine: Any):
    with pytest.raises(RequestRejectedError) as caught:
        engine.add(make(RequestId("m"), tokens=4, sampling=Sampling(max_tokens=9, min_tokens=3)))
    assert caught.value.param == "min_tokens" and not engine.busy


@pytest.mark.parametrize(
    "speculation",
    [prompt_lookup(tokens=4, ngram=2), draft_model("smollm2-135m", tokens=4)],
    ids=["prompt-lookup", "draft"],
)
def test_tokens_accepted_together_are_all_counted(folder: Path, speculation: Speculation):
    settings = EngineSettings(
        speculation=speculation,
        cache=CachePrecision.INT8,
        prefix_cache=False,
        context_tokens=512,
    )
    engine = load(folder, settings)
    try:
        text = "one two three four one two three four one two three four one two"
        counted, steps = ask(
            engine, text, Sampling(max_tokens=32, temperature=0.0, ignore_eos=True)
        )
        shares = [share for step in steps for share in step.shares]
        assert sum(share.decode_tokens for share in shares) == 32
        # Whether several are told in one step depends on how soon this process reads them.
        assert sum(share.prefill_tokens for share in shares) == counted
        assert sum(share.cached_tokens for share in shares) == 0
    finally:
        engine.close()
