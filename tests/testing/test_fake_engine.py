"""The fake engine's answers that end by themselves: a share of them, and the same ones again."""

from meted.domain.request import EngineRequest, FinishReason, Sampling, TextPrompt
from meted.domain.units import RequestId
from meted.testing.fake_engine import FakeEngine, FakeSettings

MOST = 40


def answer(engine: FakeEngine, prompt: str, *, ignore_eos: bool = False) -> tuple[int, str]:
    """How many tokens an answer has, and how it ends."""
    sampling = Sampling(max_tokens=MOST, temperature=0, ignore_eos=ignore_eos)
    engine.add(
        EngineRequest(request_id=RequestId("r"), prompt=TextPrompt(text=prompt), sampling=sampling)
    )
    tokens = 0
    while True:
        step = engine.step()
        tokens += sum(share.decode_tokens for share in step.shares)
        for output in step.outputs:
            if output.finish_reason is not None:
                return tokens, output.finish_reason


def test_a_share_of_answers_ends_early_and_the_same_ones_again() -> None:
    engine = FakeEngine(manners=FakeSettings(early_permille=300))
    first = [answer(engine, f"prompt {number}") for number in range(300)]
    early = [tokens for tokens, reason in first if reason is FinishReason.STOP]
    assert 60 <= len(early) <= 120
    assert len(set(early)) > 20 and max(early) <= MOST
    assert all(tokens == MOST for tokens, reason in first if reason is FinishReason.LENGTH)
    assert first == [answer(engine, f"prompt {number}") for number in range(300)]


def test_who_ignores_the_end_gets_all_tokens() -> None:
    engine = FakeEngine(manners=FakeSettings(early_permille=1000))
    assert answer(engine, "prompt", ignore_eos=True) == (MOST, FinishReason.LENGTH)


def test_without_the_setting_no_answer_ends_early() -> None:
    engine = FakeEngine()
    assert {answer(engine, f"prompt {number}") for number in range(50)} == {
        (MOST, FinishReason.LENGTH)
    }
