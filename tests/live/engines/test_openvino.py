"""The real engine with the real built-in model."""

import random
import resource
import statistics
from pathlib import Path
from typing import Any

import pytest

from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
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

GREEDY = Sampling(max_tokens=24, temperature=0.0)
WORDS = ("apple", "river", "stone", "cloud", "model", "price", "token", "share", "night")


@pytest.fixture(scope="module")
def folder(smollm2: CheckpointRegistry) -> Path:
    return smollm2.get("smollm2-135m").folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Any:
    from meted.live.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(folder=folder, threads=2, max_batch=4)


def chat(name: str, content: str, sampling: Sampling = GREEDY) -> EngineRequest:
    prompt = ChatPrompt(messages=(Message(role="user", content=content),))
    return EngineRequest(request_id=RequestId(name), prompt=prompt, sampling=sampling)


def text(name: str, content: str, sampling: Sampling = GREEDY) -> EngineRequest:
    prompt = TextPrompt(text=content)
    return EngineRequest(request_id=RequestId(name), prompt=prompt, sampling=sampling)


def drain(engine: Any) -> list[Step]:
    steps: list[Step] = []
    while engine.busy:
        steps.append(engine.step())
    return steps


def answer(engine: Any, request: EngineRequest) -> str:
    engine.add(request)
    return "".join(one.text for step in drain(engine) for one in step.outputs)


def test_it_conforms(engine: Any):
    def make(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
        return text(request_id, "word " * tokens, sampling)

    check_engine(engine, make_request=make)


def test_the_answer_is_sensible(engine: Any):
    assert "Paris" in answer(engine, text("paris", "The capital of France is"))


def test_a_repeated_prompt_comes_from_the_prefix_cache(engine: Any):
    generator = random.Random(1)
    prompt = " ".join(generator.choice(WORDS) for _ in range(760))
    one = Sampling(max_tokens=1, temperature=0.0)
    tokens = engine.add(text("fresh", prompt, one))
    fresh = drain(engine)
    engine.add(text("again", prompt, one))
    again = drain(engine)
    assert tokens >= 760
    assert [len(fresh), len(again)] == [-(-tokens // 256), 1]
    assert [share.cached_tokens for step in fresh for share in step.shares] == [0] * len(fresh)
    (share,) = again[0].shares
    assert share.cached_tokens > 700
    assert share.prefill_tokens + share.cached_tokens == tokens


def test_the_mirror_holds_exactly_the_blocks_that_the_pipeline_holds(engine: Any):
    generator = random.Random(2)
    bases = [" ".join(generator.choice(WORDS) for _ in range(90)) for _ in range(3)]
    checked = 0
    for number in range(40):
        base = generator.choice(bases)
        prompt = base[: generator.randint(10, len(base))] + " " + generator.choice(WORDS)
        sampling = Sampling(max_tokens=generator.randint(1, 12), temperature=0.0)
        engine.add(text(f"mirror-{number}", prompt, sampling))
        if generator.random() < 0.6:
            step = engine.step()
            observed = engine._pipeline.get_metrics().cache_usage / 100
            assert step.cache_usage == pytest.approx(observed, abs=1e-6)
            checked += 1
    drain(engine)
    assert checked > 15


def test_a_stop_string_over_several_tokens_is_not_shown(engine: Any):
    prompt = "Repeat: one, two, three, four, five."
    whole = answer(engine, chat("whole", prompt))
    stop = whole[5:14]
    stopped = answer(engine, chat("stopped", prompt, Sampling(temperature=0.0, stop=(stop,))))
    assert stopped == whole[: whole.index(stop)]


def test_both_detokenisers_give_the_text_of_all_tokens(engine: Any):
    from meted.live.engines.detokenise import ByteDetokeniser, WindowDetokeniser

    general = WindowDetokeniser(engine._tokenizer)
    assert isinstance(engine._detokeniser, ByteDetokeniser)
    generator = random.Random(4)
    rows = [[generator.randrange(49152) for _ in range(80)] for _ in range(10)]
    text = engine._tokenizer.encode("emoji 💙 and 日本語 and ümläuts " * 4)
    rows.append(text.input_ids.data[0].tolist())
    for tokens in rows:
        whole = engine._tokenizer.decode(tokens)
        for detokeniser in (engine._detokeniser, general):
            state = detokeniser.begin()
            shown = "".join(detokeniser.texts([(state, [token])])[0] for token in tokens)
            assert shown == whole


def test_equal_seeds_in_one_batch_give_equal_answers_and_others_do_not(engine: Any):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        seeded = Sampling(max_tokens=16, temperature=1.0, seed=seed, ignore_eos=True)
        engine.add(chat(name, "Say something.", seeded))
    texts = {"one": "", "two": "", "other": ""}
    for step in drain(engine):
        for output in step.outputs:
            texts[output.request_id] += output.text
    assert texts["one"] == texts["two"] != texts["other"]


def test_min_tokens_and_penalties_reach_the_sampler(engine: Any):
    least = Sampling(max_tokens=40, min_tokens=30, temperature=0.0)
    engine.add(chat("least", "Say only: yes", least))
    assert sum(share.decode_tokens for step in drain(engine) for share in step.shares) >= 30
    plain = answer(engine, text("plain", "a b a b a b a b", GREEDY))
    harsh = Sampling(max_tokens=24, temperature=0.0, frequency_penalty=2.0, presence_penalty=2.0)
    assert answer(engine, text("harsh", "a b a b a b a b", harsh)) != plain


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat("long", "word " * 9000), "messages"),
        (text("long", "word " * 9000), "prompt"),
        (text("empty", ""), "prompt"),
        (chat("much", "hello", Sampling(max_tokens=8190)), "max_tokens"),
        (
            EngineRequest(request_id=RequestId("e"), prompt=EmbeddingPrompt(texts=("a",))),
            "model",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_field(
    engine: Any, request_: EngineRequest, param: str
):
    with pytest.raises(RequestRejectedError) as caught:
        engine.add(request_)
    assert caught.value.param == param
    assert not engine.busy


def test_many_requests_leave_nothing_behind(engine: Any):
    generator = random.Random(3)
    sizes: list[int] = []
    for number in range(120):
        name = f"many-{number}"
        prompt = " ".join(generator.choice(WORDS) for _ in range(10))
        engine.add(text(name, prompt, Sampling(max_tokens=2 + number % 3)))
        engine.step()
        if number % 3 == 0:
            engine.cancel(RequestId(name))
        sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    drain(engine)
    assert not engine.busy and engine._mirror.usage == 0.0
    assert not engine._running and not engine._mirror._requests
    assert sizes[-1] - statistics.median(sizes) < 100_000, "memory keeps growing (KiB)"
    assert answer(engine, chat("after", "What is the capital of France?"))


def test_a_cancelled_request_ends_at_once_and_frees_its_blocks(engine: Any):
    long = Sampling(max_tokens=500, ignore_eos=True)
    engine.add(text("going", "Once upon a time", long))
    engine.step()
    engine.cancel(RequestId("going"))
    step = engine.step()
    assert [one.finish_reason for one in step.outputs] == [FinishReason.CANCELLED]
    assert step.shares == () and step.cache_usage == 0.0
    assert not engine.busy
