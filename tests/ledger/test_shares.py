"""Shared cost: nothing is lost or invented, by any method and of either sign."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import NanoUSD, TenantName
from meted.ledger.shares import Method, Shares, share

A, B, C = TenantName("a"), TenantName("b"), TenantName("c")


def shared(amount: int, direct: dict[TenantName, int], method: Method, **reserved: int) -> Shares:
    return share(
        shared=NanoUSD(amount),
        direct={tenant: NanoUSD(cost) for tenant, cost in direct.items()},
        method=method,
        reservations={TenantName(tenant): part for tenant, part in reserved.items()},
    )


def test_none_leaves_all_unallocated() -> None:
    assert shared(100, {A: 1}, Method.NONE, a=1) == Shares(parts={}, unallocated=NanoUSD(100))


def test_even_is_equal_for_all_with_direct_cost() -> None:
    assert shared(100, {A: 1, B: 10**9, C: 0}, Method.EVEN).parts == {A: 50, B: 50}


def test_proportional_follows_direct_cost() -> None:
    assert shared(100, {A: 10, B: 30, C: -5}, Method.PROPORTIONAL).parts == {A: 25, B: 75}


def test_who_reserved_pays_even_without_use() -> None:
    assert shared(100, {A: 99}, Method.BY_RESERVATION, b=3, c=1, a=0).parts == {B: 75, C: 25}


def test_the_remainder_goes_to_the_largest_fractions_and_then_to_the_first_names() -> None:
    assert shared(100, {C: 1, B: 1, A: 1}, Method.EVEN).parts == {A: 34, B: 33, C: 33}
    assert shared(10, {A: 1, B: 5}, Method.PROPORTIONAL).parts == {A: 2, B: 8}


def test_a_correction_mirrors_what_it_corrects() -> None:
    direct = {A: 7, B: 11, C: 13}
    charge = shared(101, direct, Method.PROPORTIONAL)
    correction = shared(-101, direct, Method.PROPORTIONAL)
    assert {tenant: -part for tenant, part in correction.parts.items()} == charge.parts


@pytest.mark.parametrize("method", Method)
def test_if_nobody_can_bear_it_all_is_unallocated(method: Method) -> None:
    assert shared(-7, {A: 0, B: -3}, method, c=0) == Shares(parts={}, unallocated=NanoUSD(-7))


def test_a_negative_reservation_is_refused() -> None:
    with pytest.raises(ValueError, match="tenant 'b' has a reservation of -1"):
        shared(1, {}, Method.BY_RESERVATION, a=1, b=-1)


NAMES = st.sampled_from([TenantName(name) for name in "abcdefgh"])
AMOUNTS = st.integers(min_value=-(10**21), max_value=10**21)
DIRECT = st.dictionaries(NAMES, AMOUNTS)
RESERVED = st.dictionaries(NAMES, st.integers(min_value=0, max_value=10**21))


@given(amount=AMOUNTS, direct=DIRECT, reserved=RESERVED, method=st.sampled_from(Method))
def test_parts_and_the_unallocated_are_all_of_it(
    amount: int, direct: dict[TenantName, int], reserved: dict[TenantName, int], method: Method
) -> None:
    shares = shared(amount, direct, method, **reserved)
    assert sum(shares.parts.values()) + shares.unallocated == amount
    assert not shares.parts or shares.unallocated == 0
    assert all(part * amount >= 0 for part in shares.parts.values())


@given(amount=AMOUNTS, direct=DIRECT)
def test_each_part_is_less_than_a_nano_from_its_exact_share(
    amount: int, direct: dict[TenantName, int]
) -> None:
    whole = sum(max(0, cost) for cost in direct.values())
    for tenant, part in shared(amount, direct, Method.PROPORTIONAL).parts.items():
        assert abs(part - Fraction(amount * direct[tenant], whole)) < 1


@given(amount=AMOUNTS, direct=DIRECT, reserved=RESERVED, method=st.sampled_from(Method))
def test_the_order_of_the_tenants_changes_nothing(
    amount: int, direct: dict[TenantName, int], reserved: dict[TenantName, int], method: Method
) -> None:
    reversed_direct = dict(reversed(direct.items()))
    reversed_reserved = dict(reversed(reserved.items()))
    forth = shared(amount, direct, method, **reserved)
    back = shared(amount, reversed_direct, method, **reversed_reserved)
    assert forth == back
