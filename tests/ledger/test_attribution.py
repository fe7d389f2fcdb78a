"""A step is split so that nothing is lost, and each request pays what it added."""

from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meted.domain.step import StepShare
from meted.domain.units import DeviceNanos, RequestId, Tokens
from meted.ledger.attribution import split_step
from meted.predict.step_time import StepCost, work_of

COST = StepCost(fixed=18_000, prefill=2_700, decode=4_300, context=9, attention=1)


def share(prefill: int = 0, decode: int = 0, context: int = 0, cached: int = 0) -> StepShare:
    return StepShare(
        request_id=RequestId("r"),
        prefill_tokens=Tokens(prefill),
        cached_tokens=Tokens(cached),
        decode_tokens=Tokens(decode),
        context_tokens=Tokens(context),
    )


COUNTS = st.integers(min_value=0, max_value=5_000)
SHARES = st.builds(share, COUNTS, st.integers(min_value=0, max_value=3), COUNTS, COUNTS)
PARTS = st.floats(min_value=0, max_value=1e5, allow_nan=False)
COSTS = st.builds(
    StepCost, fixed=PARTS, prefill=PARTS, decode=PARTS, context=PARTS, attention=PARTS
)
BATCHES = st.lists(SHARES, min_size=1, max_size=16)


@given(used=st.integers(min_value=0, max_value=10**12), batch=BATCHES, cost=COSTS)
def test_the_parts_are_the_whole_and_nobody_is_paid(
    used: int, batch: list[StepShare], cost: StepCost
) -> None:
    parts = split_step(DeviceNanos(used), batch, cost)
    assert sum(parts) == used
    assert min(parts) >= 0
    assert len(parts) == len(batch)


@given(batch=st.lists(SHARES, min_size=1, max_size=4))
def test_each_pays_its_shapley_value_of_the_predicted_step(batch: list[StepShare]) -> None:
    def nanos(members: list[StepShare]) -> float:
        return 1000 * COST.micros(work_of(members)) if members else 0.0

    orders = list(permutations(range(len(batch))))
    values = [0.0] * len(batch)
    for order in orders:
        for position, member in enumerate(order):
            joined = [batch[one] for one in order[: position + 1]]
            values[member] += (nanos(joined) - nanos(joined[:-1])) / len(orders)
    parts = split_step(DeviceNanos(round(nanos(batch))), batch, COST)
    for part, value in zip(parts, values, strict=True):
        assert part == pytest.approx(value, rel=1e-3, abs=2_000)


@given(batch=BATCHES, more=st.integers(min_value=1, max_value=1_000))
def test_more_prompt_in_an_equal_step_never_pays_less(batch: list[StepShare], more: int) -> None:
    first, *others = batch
    # A request that only decodes is another kind of work: it reads its context.
    assume(first.prefill_tokens > 0)
    larger = share(
        first.prefill_tokens + more, first.decode_tokens, first.context_tokens + more + 9_999
    )
    smaller = share(first.prefill_tokens, first.decode_tokens, first.context_tokens)
    used = DeviceNanos(10**9)
    assert split_step(used, [larger, *others], COST)[0] >= (
        split_step(used, [smaller, *others], COST)[0] - 1
    )


def test_a_request_alone_pays_for_all_of_its_step() -> None:
    assert split_step(DeviceNanos(777), [share(decode=1, context=9)], COST) == [777]


def test_what_the_prefix_cache_held_is_not_charged_as_prefill() -> None:
    found = share(prefill=30, cached=900, context=930)
    computed = share(prefill=930, context=930)
    beside = share(decode=1, context=50)
    used = DeviceNanos(10**9)
    linear = StepCost(fixed=0, prefill=2_700, decode=2_700, context=0)
    assert split_step(used, [found, beside], linear)[1] == pytest.approx(10**9 / 31, abs=1)
    assert split_step(used, [computed, beside], linear)[1] == pytest.approx(10**9 / 931, abs=1)


def test_a_late_chunk_of_a_long_prompt_pays_more_than_its_first() -> None:
    beside = share(decode=1, context=50)
    used = DeviceNanos(10**9)
    early = split_step(used, [share(prefill=256, context=256), beside], COST)
    late = split_step(used, [share(prefill=256, context=3_840), beside], COST)
    assert late[1] < 0.6 * early[1]


def test_a_step_of_nobody_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="charge it to overhead"):
        split_step(DeviceNanos(5), [], COST)
    with pytest.raises(ValueError, match="nothing negative"):
        split_step(DeviceNanos(-5), [share(decode=1)], COST)
