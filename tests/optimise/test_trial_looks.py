"""Looks at a trial: never more than their share, and near where the target is met."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.optimise.trial_looks import (
    FORWARD,
    LEAST_LOOKS,
    LOOKS_SHARE,
    MOST_LOOKS,
    LookPlan,
    Seen,
    ahead,
    crossing,
    look_size,
)


def looks_of(plan: LookPlan, *, steps: int, losses: list[float], target: float) -> list[Seen]:
    """All looks of a training in even steps that halts at a third and goes on, the base's first."""
    step, seen = plan.whole / steps, [Seen(0, losses[0])]
    third = -(-steps // 3)
    for at in range(1, steps + 1):
        until = step * (third if at <= third else steps)
        if plan.due(trained=at * step, until=until, seen=seen, target=target):
            seen.append(Seen(at * step, losses[at]))
    return seen


@given(
    st.integers(6, 400),
    st.floats(0.001, 0.08),
    st.floats(0.0, 1.0),
    st.lists(st.floats(1.0, 4.0), min_size=401, max_size=401),
)
def test_looks_cost_no_more_than_their_share(
    steps: int, look: float, target: float, losses: list[float]
) -> None:
    """Whatever the losses say. The ladder's first rung is as dear as its look demands."""
    plan = LookPlan(look=look, share=0.25, whole=1.0)
    seen = looks_of(plan, steps=steps, losses=losses, target=target)
    for made, one in enumerate(seen[1:], start=1):
        assert made * look <= 0.25 * one.cost + 1e-9
    assert len(seen) - 1 <= MOST_LOOKS + 2
    assert seen[-1].cost == pytest.approx(1.0), "where a training halts it is judged"


@given(st.floats(0.05, 0.95), st.floats(0.2, 3.0), st.integers(50, 500))
def test_a_loss_that_falls_ever_more_slowly_is_seen_near_where_it_meets_the_target(
    where: float, bend: float, steps: int
) -> None:
    losses = [2.0 + math.exp(-bend * 3 * at / steps) for at in range(steps + 1)]
    target = 2.0 + math.exp(-bend * 3 * where)
    plan = LookPlan(look=0.002, share=0.25, whole=1.0)
    seen = looks_of(plan, steps=steps, losses=losses, target=target)
    found = crossing(seen, target)
    assert found is not None
    first = next(one for one in seen if one.loss <= target)
    assert first.cost <= where + (1 + LEAST_LOOKS) / MOST_LOOKS + 1 / steps
    assert where - 1e-6 <= found <= first.cost, "a bent line lies below the straight one"


def test_no_look_is_wasted_where_the_target_cannot_be_met_before_the_halt() -> None:
    plan = LookPlan(look=0.01, share=0.25, whole=1.0)
    far = [Seen(0.0, 3.0), Seen(0.3, 2.9)]
    near = [Seen(0.0, 3.0), Seen(0.3, 2.55)]
    assert not plan.due(trained=0.4, until=1.0, seen=far, target=2.5)
    assert plan.due(trained=0.4, until=1.0, seen=near, target=2.5)
    # A rate that rises is not foreseen: after a quarter of the way it is looked at all the same.
    assert plan.due(trained=0.56, until=1.0, seen=far, target=2.5)


def test_what_is_ahead() -> None:
    assert ahead([Seen(0, 3.0)], 2.0) == 0
    assert ahead([Seen(0, 3.0), Seen(10, 2.5)], 2.0) == 10
    assert ahead([Seen(0, 3.0), Seen(10, 3.5)], 2.0) == math.inf
    assert ahead([Seen(0, 3.0), Seen(10, math.nan)], 2.0) == math.inf


def test_the_crossing_is_read_off_straight_lines() -> None:
    seen = [Seen(0, 3.0), Seen(10, 2.5), Seen(20, 2.4)]
    assert crossing(seen, 2.75) == 5
    assert crossing(seen, 2.45) == pytest.approx(15)
    assert crossing(seen, 2.0) is None
    assert crossing(seen[:1], 2.9) is None
    assert crossing(seen, 3.5) == 0
    assert crossing([Seen(0, math.inf), Seen(10, 2.0)], 2.5) == 10
    assert crossing([Seen(0, 3.0), Seen(10, math.nan)], 2.5) is None


@given(st.integers(256, 8192), st.integers(256, 10**7))
def test_all_that_is_read_on_a_whole_training_is_within_the_share(held_out: int, job: int) -> None:
    size = look_size(held_out=held_out, job=job, most=2048)
    assert 1 <= size.tokens <= min(held_out, 2048)
    if size.tokens == 1:
        return
    rest = held_out - size.tokens if size.confirmed else 0
    read = (LEAST_LOOKS - size.confirmed) * size.tokens + (size.tokens + rest) * size.confirmed
    assert read * FORWARD <= LOOKS_SHARE * job * (1 + 1e-9)
    assert size.share * job + rest * FORWARD == pytest.approx(LOOKS_SHARE * job)


@pytest.mark.parametrize(
    ("held_out", "job", "tokens", "confirmed"),
    [
        (3072, 10_240, 1308, True),
        (8192, 10_240, 1896, False),
        (8192, 100_000, 2048, True),
        (1024, 100_000, 1024, False),
    ],
)
def test_all_of_the_text_confirms_where_looks_can_still_read_enough(
    held_out: int, job: int, tokens: int, confirmed: bool
) -> None:
    size = look_size(held_out=held_out, job=job, most=2048)
    assert (size.tokens, size.confirmed) == (tokens, confirmed)
