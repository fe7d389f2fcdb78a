"""What every engine must keep to; run it on yours: `check_engine(engine, make_request=...)`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meted.domain.deployment import Task
from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
    EngineRequest,
    FinishReason,
    RequestRejectedError,
    Sampling,
    TextPrompt,
)
from meted.domain.step import Step
from meted.domain.units import RequestId, Tokens
from meted.live.engine import Engine

MOST_STEPS = 20_000
PARAMS = {ChatPrompt: "messages", TextPrompt: "prompt", EmbeddingPrompt: "input"}


class MakeRequest(Protocol):
    """A request whose prompt has about as many tokens as asked for, at least one."""

    def __call__(
        self, request_id: RequestId, *, tokens: int, sampling: Sampling
    ) -> EngineRequest: ...


@dataclass(slots=True)
class Record:
    """What an engine said of one request."""

    prompt_tokens: int
    prefill: int = 0
    cached: int = 0
    decoded: int = 0
    text: str = ""
    vectors: int = 0
    finishes: list[FinishReason] = field(default_factory=list[FinishReason])


class _Driver:
    """Runs an engine and checks every step of it."""

    def __init__(self, engine: Engine, make_request: MakeRequest) -> None:
        self.engine = engine
        self.make = make_request
        self.records: dict[RequestId, Record] = {}
        self._count = 0

    def add(self, *, tokens: int = 20, sampling: Sampling | None = None) -> RequestId:
        self._count += 1
        request_id = RequestId(f"check-{self._count}")
        wanted = sampling or Sampling(max_tokens=5, temperature=0.0)
        prompt = self.engine.add(self.make(request_id, tokens=tokens, sampling=wanted))
        assert prompt > 0, f"add returned {prompt} prompt tokens, expected at least 1"
        self.records[request_id] = Record(prompt)
        return request_id

    def step(self) -> Step:
        step = self.engine.step()
        seen = [share.request_id for share in step.shares]
        assert len(set(seen)) == len(seen), f"a step reports a request twice: {seen}"
        for share in step.shares:
            record = self._open(share.request_id, "a share")
            record.prefill += share.prefill_tokens
            record.cached += share.cached_tokens
            record.decoded += share.decode_tokens
            assert share.prefill_tokens >= 0 and share.cached_tokens >= 0, f"{share} is negative"
            assert share.context_tokens > 0, f"{share} has no context"
        for output in step.outputs:
            record = self._open(output.request_id, "an output")
            record.text += output.text
            record.vectors += len(output.embeddings)
            if output.finish_reason is not None:
                record.finishes.append(output.finish_reason)
        assert 0.0 <= step.cache_usage <= 1.0, f"cache_usage is {step.cache_usage}"
        return step

    def _open(self, request_id: RequestId, what: str) -> Record:
        assert request_id in self.records, f"{what} names the unknown request {request_id!r}"
        record = self.records[request_id]
        assert not record.finishes, f"{what} names {request_id!r}, which has ended"
        return record

    def drain(self) -> None:
        steps = 0
        while self.engine.busy:
            self.step()
            steps += 1
            assert steps < MOST_STEPS, f"the engine is still busy after {steps} steps"
        for request_id, record in self.records.items():
            assert len(record.finishes) == 1, f"{request_id!r} ended {len(record.finishes)} times"
            if record.finishes[0] is not FinishReason.CANCELLED:
                done = record.prefill + record.cached
                assert done == record.prompt_tokens, (
                    f"{request_id!r} has {record.prompt_tokens} prompt tokens, but "
                    f"{record.prefill} computed and {record.cached} cached"
                )


def check_engine(engine: Engine, *, make_request: MakeRequest) -> None:
    """Raises AssertionError, with a sentence, at the first rule that the engine breaks."""
    assert not engine.busy, "a new engine is busy"
    driver = _Driver(engine, make_request)
    _check_all_end_once(driver)
    _check_cancel(driver)
    _check_over_context(driver)
    if engine.facts.task is Task.GENERATE:
        _check_lengths(driver)
        _check_seeds(driver)
        _check_stop(driver)
    assert not engine.busy, "the engine is busy although every request has ended"


def _check_all_end_once(driver: _Driver) -> None:
    """Also with more requests than fit a batch, of different lengths."""
    generates = driver.engine.facts.task is Task.GENERATE
    added = [driver.add(tokens=5 + 40 * n) for n in range(driver.engine.facts.max_batch + 3)]
    driver.drain()
    for request_id in added:
        record = driver.records[request_id]
        if generates:
            assert 1 <= record.decoded <= 5, f"{request_id!r} has {record.decoded} tokens of 5"
        else:
            assert record.decoded == 0 and record.vectors == 1, f"{request_id!r} has no vector"


def _check_cancel(driver: _Driver) -> None:
    """A cancelled request ends as such, in the next step, and has no part in it."""
    engine = driver.engine
    engine.cancel(RequestId("never-added"))
    long = Sampling(max_tokens=200, temperature=0.0, ignore_eos=True)
    kept, gone = driver.add(sampling=long), driver.add(tokens=30, sampling=long)
    waiting = [driver.add(sampling=long) for _ in range(engine.facts.max_batch)]
    if engine.facts.task is Task.GENERATE:
        driver.step()
    for request_id in (gone, *waiting):
        engine.cancel(request_id)
        engine.cancel(request_id)
    assert engine.busy, "the engine is not busy although a cancelled request has not ended"
    step = driver.step()
    assert gone not in {share.request_id for share in step.shares}, "a cancelled request had work"
    for request_id in (gone, *waiting):
        assert driver.records[request_id].finishes == [FinishReason.CANCELLED], (
            f"the cancelled {request_id!r} ended as {driver.records[request_id].finishes}"
        )
    engine.cancel(kept)
    driver.drain()


def _check_over_context(driver: _Driver) -> None:
    """Too long a prompt is refused with its field named, and leaves nothing behind."""
    context = driver.engine.facts.context_tokens
    request_id = RequestId("check-too-long")
    request = driver.make(request_id, tokens=2 * context + 16, sampling=Sampling(max_tokens=1))
    try:
        driver.engine.add(request)
    except RequestRejectedError as error:
        expected = PARAMS[type(request.prompt)]
        assert error.param == expected, f"the error names {error.param!r}, expected {expected!r}"
        assert error.code == "context_length_exceeded", f"its code is {error.code!r}"
    else:
        raise AssertionError(f"a prompt of twice the context of {context} tokens was accepted")
    assert not driver.engine.busy, "a rejected request keeps the engine busy"


def _check_lengths(driver: _Driver) -> None:
    """max_tokens is kept to exactly where nothing else ends the answer."""
    exact = Sampling(max_tokens=7, temperature=0.0, ignore_eos=True)
    added = [driver.add(sampling=exact) for _ in range(3)]
    driver.drain()
    for request_id in added:
        record = driver.records[request_id]
        assert record.decoded == 7, f"{request_id!r} has {record.decoded} tokens, expected 7"
        assert record.finishes == [FinishReason.LENGTH], f"it ended as {record.finishes}"
    try:
        over = Sampling(max_tokens=driver.engine.facts.context_tokens)
        driver.add(sampling=over)
    except RequestRejectedError as error:
        assert error.param == "max_tokens", f"the error names {error.param!r}, not max_tokens"
    else:
        raise AssertionError("more tokens than the context leaves were promised")


def _check_seeds(driver: _Driver) -> None:
    """Equal seeds give equal answers; greedy ones need none.

    A prompt from a prefix cache may differ in its last bits from one computed afresh, so the first
    answer only fills the caches.
    """
    for sampling in (
        Sampling(max_tokens=12, temperature=1.0, seed=7),
        Sampling(max_tokens=12, temperature=0.0),
    ):
        _, first, second = (_answers(driver, [sampling]) for _ in range(3))
        assert first == second, f"{sampling} gave {first}, then {second}"


def _check_stop(driver: _Driver) -> None:
    """The text ends just before the stop string, which is not shown."""
    greedy = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True)
    (whole,) = _answers(driver, [greedy])
    middle = len(whole) // 2
    stop = whole[middle : middle + 3]
    stopping = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True, stop=(stop,))
    (short,) = _answers(driver, [stopping])
    expected = whole[: whole.index(stop)]
    assert short == expected, f"stop {stop!r} gave {short!r}, expected {expected!r}"


def _answers(driver: _Driver, samplings: Sequence[Sampling]) -> list[str]:
    added = [driver.add(tokens=Tokens(20), sampling=one) for one in samplings]
    driver.drain()
    return [driver.records[request_id].text for request_id in added]
