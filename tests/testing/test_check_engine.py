"""The conformance check accepts a right engine and finds each wrong one."""

from dataclasses import replace

import pytest

from meted.domain.request import (
    ChatPrompt,
    EngineRequest,
    FinishReason,
    Message,
    Sampling,
    TextPrompt,
)
from meted.domain.step import Step, StepOutput
from meted.domain.units import RequestId, Tokens
from meted.testing.check_engine import check_engine
from meted.testing.fake_engine import FakeEngine, FakeSettings


def text_request(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
    prompt = TextPrompt(text="word " * tokens)
    return EngineRequest(request_id=request_id, prompt=prompt, sampling=sampling)


def chat_request(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
    prompt = ChatPrompt(messages=(Message(role="user", content="word " * tokens),))
    return EngineRequest(request_id=request_id, prompt=prompt, sampling=sampling)


@pytest.mark.parametrize("make_request", [text_request, chat_request])
def test_the_fake_engine_conforms(make_request):
    check_engine(FakeEngine(), make_request=make_request)


def test_the_fake_engine_conforms_in_small_chunks():
    settings = FakeSettings(batch_tokens=3, answer_tokens=2)
    check_engine(FakeEngine(manners=settings, max_batch=2), make_request=text_request)


class Deaf(FakeEngine):
    """Does not heed a cancel."""

    def cancel(self, request_id: RequestId) -> None:
        pass


class Generous(FakeEngine):
    """Counts a token too many in every step."""

    def step(self) -> Step:
        step = super().step()
        more = [replace(one, decode_tokens=Tokens(one.decode_tokens + 1)) for one in step.shares]
        return replace(step, shares=tuple(more))


class Forgetful(FakeEngine):
    """Never counts prompts."""

    def step(self) -> Step:
        step = super().step()
        less = [replace(one, prefill_tokens=Tokens(0)) for one in step.shares]
        return replace(step, shares=tuple(less))


class Twice(FakeEngine):
    """Ends requests twice."""

    def step(self) -> Step:
        step = super().step()
        ends = [one for one in step.outputs if one.finish_reason is not None]
        return replace(step, outputs=(*step.outputs, *ends))


class Lenient(FakeEngine):
    """Takes any prompt."""

    def add(self, request: EngineRequest) -> Tokens:
        super().add(text_request(request.request_id, tokens=1, sampling=request.sampling))
        return Tokens(1)


class Stranger(FakeEngine):
    """Answers somebody else."""

    def step(self) -> Step:
        step = super().step()
        other = StepOutput(request_id=RequestId("nobody"), finish_reason=FinishReason.STOP)
        return replace(step, outputs=(*step.outputs, other))


class Moody(FakeEngine):
    """Ignores seeds."""

    def add(self, request: EngineRequest) -> Tokens:
        sampling = replace(request.sampling, temperature=1.0, seed=None)
        return super().add(replace(request, sampling=sampling))


@pytest.mark.parametrize(
    "broken",
    [Deaf, Generous, Forgetful, Twice, Lenient, Stranger, Moody],
    ids=lambda one: one.__name__,
)
def test_a_broken_engine_is_found_out(broken: type[FakeEngine]):
    with pytest.raises(AssertionError):
        check_engine(broken(), make_request=text_request)
