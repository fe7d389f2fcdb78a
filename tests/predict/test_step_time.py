"""Step times: what a batch has to compute, and what measured steps teach of its cost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.step import StepShare
from meted.domain.units import RequestId, Tokens
from meted.predict.step_time import (
    DEVICE_PRIOR,
    PRIOR,
    StepCost,
    StepTimeFit,
    StepWork,
    marginal_micros,
    work_of,
)

TRUE = StepCost(fixed=18_000, prefill=2_700, decode=4_300, context=9, attention=1.2)


def share(prefill: int, decode: int, context: int) -> StepShare:
    return StepShare(
        request_id=RequestId("r"),
        prefill_tokens=Tokens(prefill),
        cached_tokens=Tokens(0),
        decode_tokens=Tokens(decode),
        context_tokens=Tokens(context),
    )


@st.composite
def shares(draw: st.DrawFn) -> StepShare:
    prefill = draw(st.integers(min_value=0, max_value=256))
    before = draw(st.integers(min_value=0, max_value=4_000))
    return share(prefill, draw(st.integers(min_value=0, max_value=1)), prefill + before)


@given(st.lists(shares(), max_size=16))
def test_a_step_costs_its_fixed_part_and_what_each_request_adds(batch: list[StepShare]) -> None:
    whole = TRUE.micros(work_of(batch))
    parts = TRUE.fixed + sum(marginal_micros(TRUE, one) for one in batch)
    assert whole == pytest.approx(parts, abs=len(batch) + 1)


@given(
    prefill=st.integers(min_value=1, max_value=300), before=st.integers(min_value=0, max_value=300)
)
def test_a_chunk_attends_to_all_before_each_of_its_tokens(prefill: int, before: int) -> None:
    pairs = sum(before + position + 0.5 for position in range(prefill))
    work = work_of([share(prefill, 0, before + prefill)])
    assert work.attended == pytest.approx(pairs, abs=1)
    assert work.context_tokens == 0


def test_what_only_decodes_reads_its_context() -> None:
    work = work_of([share(0, 1, 500), share(0, 1, 40), share(64, 1, 64)])
    assert (work.context_tokens, work.decode_tokens, work.prefill_tokens) == (540, 3, 64)


def some_batch(rng: random.Random) -> StepWork:
    decoders = [share(0, 1, rng.randint(20, 3_000)) for _ in range(rng.randint(0, 8))]
    prefill = rng.choice([0, 0, 40, 256, 256])
    return work_of([*decoders, share(prefill, 0, prefill + rng.randint(0, 3_000))])


def test_a_device_fit_recovers_the_quadratic_part_of_prompts_under_noise() -> None:
    rng = random.Random(3)
    fit = StepTimeFit(prior=DEVICE_PRIOR)
    for _ in range(512):
        work = some_batch(rng)
        fit.observe(work, TRUE.micros(work) * rng.uniform(0.95, 1.05))
    assert fit.cost.attention == pytest.approx(TRUE.attention, rel=0.1)
    assert fit.cost.prefill == pytest.approx(TRUE.prefill, rel=0.1)
    assert fit.cost.decode == pytest.approx(TRUE.decode, rel=0.1)


def test_a_fit_without_attention_in_its_prior_stays_linear() -> None:
    rng = random.Random(3)
    fit = StepTimeFit(prior=PRIOR)
    for _ in range(64):
        work = some_batch(rng)
        fit.observe(work, TRUE.micros(work))
    assert fit.cost.attention == 0


def test_a_fit_forgets_the_machine_of_long_ago() -> None:
    rng = random.Random(5)
    fit = StepTimeFit(window=128)
    for slowness in (3.0, 1.0):
        for _ in range(256):
            work = StepWork(
                prefill_tokens=rng.choice([0, 100]),
                decode_tokens=rng.randint(1, 8),
                context_tokens=0,
            )
            fit.observe(work, slowness * TRUE.micros(work))
    assert fit.samples == 512
    assert fit.cost.prefill == pytest.approx(TRUE.prefill, rel=0.02)
    assert fit.cost.fixed == pytest.approx(TRUE.fixed, rel=0.02)
