"""Splitting loses nothing and is in proportion."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.step import StepShare
from meted.domain.units import DeviceNanos, RequestId, Tokens
from meted.ledger.attribution import split_step
from meted.ledger.split import largest_remainder
from meted.predict.step_time import StepCost

WEIGHTS = st.lists(st.floats(min_value=0, max_value=1e6, allow_nan=False), min_size=1, max_size=20)


@given(total=st.integers(min_value=0, max_value=10**15), weights=WEIGHTS)
def test_parts_sum_to_the_whole_and_are_never_negative(total: int, weights: list[float]) -> None:
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    assert min(parts) >= 0


@given(total=st.integers(min_value=0, max_value=10**9), weights=WEIGHTS)
def test_each_part_is_within_one_unit_of_its_share(total: int, weights: list[float]) -> None:
    whole = sum(weights)
    if whole == 0:
        return
    for part, weight in zip(largest_remainder(total, weights), weights, strict=True):
        assert abs(part - total * weight / whole) <= 1 + 1e-6


BIG = st.integers(min_value=0, max_value=2**200)


@given(total=BIG, weights=st.lists(BIG, min_size=1, max_size=20))
def test_integer_weights_are_exact_at_any_size(total: int, weights: list[int]) -> None:
    parts = largest_remainder(total, weights)
    fair = weights if any(weights) else [1] * len(weights)
    exact = [Fraction(total * weight, sum(fair)) for weight in fair]
    pairs = list(zip(parts, exact, strict=True))
    assert sum(parts) == total
    assert all(abs(part - share) < 1 for part, share in pairs)
    raised = [share % 1 for part, share in pairs if part > share]
    kept = [share % 1 for part, share in pairs if part <= share]
    assert not raised or not kept or min(raised) >= max(kept)


def test_beyond_53_bits_one_unit_is_still_one_unit() -> None:
    assert largest_remainder(2**60 + 1, [2**60, 1]) == [2**60, 1]


def test_no_shares_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="over no shares"):
        largest_remainder(10, [])


def share(name: str, *, prefill: int = 0, decode: int = 0, context: int = 0) -> StepShare:
    return StepShare(
        request_id=RequestId(name),
        prefill_tokens=Tokens(prefill),
        cached_tokens=Tokens(0),
        decode_tokens=Tokens(decode),
        context_tokens=Tokens(context),
    )


COST = StepCost(fixed=1000, prefill=100, decode=500, context=1)


def test_equal_work_pays_equally() -> None:
    parts = split_step(DeviceNanos(1000), [share("a", decode=1), share("b", decode=1)], COST)
    assert parts == [500, 500]


def test_a_long_prompt_pays_for_its_prefill_and_half_of_the_fixed_part() -> None:
    prompt, chat = share("a", prefill=100), share("b", decode=1, context=500)
    parts = split_step(DeviceNanos(12_000), [prompt, chat], COST)
    assert parts == [10_500, 1_500]
