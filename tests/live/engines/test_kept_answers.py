"""An answer is given again only to who asks the same word for word, and without chance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import EngineRequest, FinishReason, Sampling, TextPrompt
from meted.domain.step import Step
from meted.domain.units import RequestId
from meted.live.engines.kept_answers import KeptAnswers
from meted.live.replica_worker import load_engine
from meted.testing.check_engine import check_engine
from meted.testing.fake_engine import FakeEngine

GREEDY = Sampling(max_tokens=6, temperature=0.0)


class Asking:
    """An engine with kept answers, and the steps that it made."""

    def __init__(self, most: int = 10) -> None:
        self.engine = KeptAnswers(FakeEngine(), most)
        self.steps: list[Step] = []
        self._count = 0

    def add(self, text: str, sampling: Sampling = GREEDY) -> RequestId:
        self._count += 1
        request_id = RequestId(str(self._count))
        self.engine.add(
            EngineRequest(request_id=request_id, prompt=TextPrompt(text=text), sampling=sampling)
        )
        return request_id

    def drain(self) -> None:
        while self.engine.busy:
            self.steps.append(self.engine.step())

    def ask(self, text: str, sampling: Sampling = GREEDY) -> tuple[str, int, bool]:
        """The answer, its tokens, and whether it was a kept one."""
        request_id, before = self.add(text, sampling), len(self.steps)
        self.drain()
        new = self.steps[before:]
        outputs = [one for step in new for one in step.outputs if one.request_id == request_id]
        assert outputs[-1].finish_reason is FinishReason.LENGTH
        tokens = sum(share.decode_tokens for step in new for share in step.shares)
        return "".join(one.text for one in outputs), tokens, new[0].recalled


def test_it_is_an_engine_like_any_other() -> None:
    def make(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
        prompt = TextPrompt(text=" ".join(["word"] * tokens))
        return EngineRequest(request_id=request_id, prompt=prompt, sampling=sampling)

    check_engine(KeptAnswers(FakeEngine(max_batch=4), 100), make_request=make)


def test_the_second_answer_is_the_first_and_costs_no_step_of_the_model() -> None:
    asking = Asking()
    first, second = asking.ask("who are you"), asking.ask("who are you")
    assert first[0] == second[0] and first[1] == second[1] == 6
    assert (first[2], second[2]) == (False, True)
    share = asking.steps[-1].shares[0]
    assert (share.prefill_tokens, share.cached_tokens, len(asking.steps)) == (0, 3, 7)


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 5}, {"stop": ("zzz",)}, {"presence_penalty": 0.5}, {"ignore_eos": True}],
)
def test_what_may_change_an_answer_is_another_question(change: dict[str, Any]) -> None:
    asking = Asking()
    asking.ask("who are you")
    assert not asking.ask("who are you", replace(GREEDY, **change))[2]
    assert not asking.ask("who are  you")[2]


def test_where_chance_has_a_part_nothing_is_kept() -> None:
    asking = Asking()
    for sampling in (replace(GREEDY, temperature=0.7), replace(GREEDY, temperature=None, seed=3)):
        assert [asking.ask("who are you", sampling)[2] for _ in range(2)] == [False, False]
    # With temperature 0 a seed has none.
    assert [asking.ask("x", replace(GREEDY, seed=one))[2] for one in (1, 2)] == [False, True]


def test_the_least_used_answer_goes_first() -> None:
    asking = Asking(most=2)
    for text in ("a", "b", "a", "c"):
        asking.ask(text)
    assert [asking.ask(text)[2] for text in ("a", "c", "b")] == [True, True, False]


def test_a_cancelled_answer_is_not_kept_and_a_kept_one_can_be_cancelled() -> None:
    asking = Asking()
    gone = asking.add("who are you")
    asking.engine.step()
    asking.engine.cancel(gone)
    asking.drain()
    assert not asking.ask("who are you")[2]
    found = asking.add("who are you")
    asking.engine.cancel(found)
    step = asking.engine.step()
    assert not step.shares and not asking.engine.busy
    assert [one.finish_reason for one in step.outputs] == [FinishReason.CANCELLED]


def test_kept_answers_are_asked_for_by_a_setting_whatever_the_engine(tmp_path: Path) -> None:
    def engine(kept: int) -> object:
        return load_engine(
            "meted.testing.fake_engine:FakeEngine",
            settings=EngineSettings(kept_answers=kept),
            folder=tmp_path,
            threads=1,
            max_batch=2,
        )

    assert isinstance(engine(3), KeptAnswers) and isinstance(engine(0), FakeEngine)
    with pytest.raises(ValueError, match="kept_answers is -1, expected 0 to"):
        EngineSettings(kept_answers=-1)
