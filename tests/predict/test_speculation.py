"""Speculative decoding: what rounds yield, what they cost, and that they lose when they do."""

from dataclasses import replace

import pytest

from meted.domain.algorithm import Parallelism, ServingAlgorithm, Speculation
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.predict.roofline import Setup, predict_replica
from meted.predict.speculation import SpeculativeStep, expected_tokens, speculation_gain
from meted.predict.step_time import StepWork

PLAIN = Setup(
    architecture=ARCHITECTURES["llama-2-70b"],
    kind=DEVICE_KINDS["a100-80gb"],
    algorithm=ServingAlgorithm(parallelism=Parallelism(tensor=4)),
)


def speculative(*, draft: str | None = "llama-2-7b", tokens: int = 4, acceptance: float = 0.8):
    guess = Speculation(
        draft=ARCHITECTURES[draft] if draft else None, tokens=tokens, acceptance=acceptance
    )
    algorithm = replace(PLAIN.algorithm, speculation=guess)
    step = predict_replica(replace(PLAIN, algorithm=algorithm)).step
    assert isinstance(step, SpeculativeStep)
    return step


def decode(batch: int) -> StepWork:
    return StepWork(prefill_tokens=0, decode_tokens=batch, context_tokens=batch * 500)


def test_a_round_yields_what_leviathan_derives() -> None:
    assert expected_tokens(0.8, 4) == pytest.approx(1 + 0.8 + 0.64 + 0.512 + 0.4096)
    assert expected_tokens(0, 5) == 1
    assert expected_tokens(1, 5) == 6


def test_a_cheap_draft_that_is_often_right_wins_at_one_sequence() -> None:
    gain = speculation_gain(speculative(draft="llama-3.2-1b"), decode(1))
    assert 1.5 < gain.speedup < gain.tokens_per_round
    assert not gain.loses


def test_a_large_batch_makes_the_same_guesses_lose() -> None:
    step = speculative(acceptance=0.6)
    assert speculation_gain(step, decode(1)).speedup > 1
    gain = speculation_gain(step, decode(512))
    assert gain.loses
    assert "slower per token" in str(gain)


def test_the_least_acceptance_is_where_it_breaks_even() -> None:
    step = speculative()
    least = speculation_gain(step, decode(16)).least_acceptance
    assert least is not None
    even = replace(step, acceptance=least)
    assert speculation_gain(even, decode(16)).speedup == pytest.approx(1, rel=1e-6)


def test_a_round_verifies_its_guesses_and_one_more_token() -> None:
    step = speculative(draft=None, tokens=4, acceptance=0)
    verified = StepWork(prefill_tokens=0, decode_tokens=320, context_tokens=64 * 500)
    assert step.micros(decode(64)) == predict_replica(PLAIN).step.micros(verified)


def test_lookup_costs_no_draft() -> None:
    lookup, drafted = speculative(draft=None), speculative()
    assert lookup.micros(decode(4)) < drafted.micros(decode(4))


def test_prompts_are_computed_once_whatever_guesses_yield() -> None:
    step = speculative(draft=None)
    prompt = StepWork(prefill_tokens=2048, decode_tokens=0, context_tokens=0, attended=2048 * 1024)
    mixed = replace(prompt, decode_tokens=4, context_tokens=2000)
    assert step.micros(prompt) == predict_replica(PLAIN).step.micros(prompt)
    added = step.micros(mixed) - step.micros(decode(4))
    assert added == pytest.approx(step.micros(prompt), rel=0.25)


def test_a_gain_is_asked_for_decoding_only() -> None:
    with pytest.raises(ValueError, match="expected one that only decodes"):
        speculation_gain(
            speculative(), StepWork(prefill_tokens=5, decode_tokens=1, context_tokens=10)
        )


@pytest.mark.parametrize(
    ("tokens", "acceptance", "said"), [(0, 0.5, "proposes 0"), (4, 1.5, "acceptance is 1.5")]
)
def test_impossible_guesses_are_refused(tokens: int, acceptance: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Speculation(draft=None, tokens=tokens, acceptance=acceptance)
