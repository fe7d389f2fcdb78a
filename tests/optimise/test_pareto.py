"""The front: nothing beats a member, and whatever is off it is beaten by one on it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.optimise.pareto import Point, dominates, front

numbers = st.integers(0, 5).map(float)


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    values = draw(st.lists(st.tuples(numbers, numbers, numbers), max_size=30))
    return [
        Point(key=f"k{at}", dollars=one[0], latency=one[1], loss=one[2])
        for at, one in enumerate(values)
    ]


@given(points())
def test_members_are_beaten_by_none_and_the_rest_by_members(every: list[Point]) -> None:
    named = {one.key: one for one in every}
    found = front(every)
    assert sorted((*found.members, *(one.key for one in found.dominated))) == sorted(named)
    for key in found.members:
        assert not any(dominates(one, named[key]) for one in every)
    for one in found.dominated:
        assert one.by
        assert one.by == tuple(
            key for key in found.members if dominates(named[key], named[one.key])
        )


@given(points(), st.randoms())
def test_the_order_of_points_does_not_matter(every: list[Point], random: object) -> None:
    turned = list(every)
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert front(every) == front(turned)


def test_points_that_tie_stand_on_the_front_together() -> None:
    twins = [Point(key=key, dollars=1.0, latency=2.0, loss=3.0) for key in "ba"]
    worse = Point(key="c", dollars=1.0, latency=2.0, loss=3.5)
    found = front([*twins, worse])
    assert found.members == ("a", "b")
    assert [(one.key, one.by) for one in found.dominated] == [("c", ("a", "b"))]


def test_a_key_twice_and_a_number_that_is_none_are_refused() -> None:
    one = Point(key="a", dollars=1.0, latency=1.0, loss=1.0)
    with pytest.raises(ValueError, match="comes twice"):
        front([one, one])
    with pytest.raises(ValueError, match="expected numbers"):
        Point(key="a", dollars=math.nan, latency=1.0, loss=1.0)
