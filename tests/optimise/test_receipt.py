"""A receipt goes only where a rollout can take it, and its money is whole nano-USD."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import DeploymentName, Micros, NanoUSD, Tokens
from meted.optimise.receipt import (
    NEXT,
    ArmTotals,
    Lever,
    Receipt,
    ReceiptError,
    ReceiptId,
    Status,
    moved,
    saved,
    total,
)
from meted.predict.estimate import Estimate

SAVING = Estimate(low=0.04, expected=0.1, high=0.15, level=0.95)
PREDICTED = Receipt(
    id=ReceiptId("r1"),
    lever=Lever.ENGINE,
    deployment=DeploymentName("chat"),
    before="openvino, cache fp16",
    after="openvino, cache int8",
    predicted=Estimate(low=0.0, expected=0.12, high=0.2),
    began=Micros(1_000),
    first=ArmTotals(tokens=Tokens(3_000), cost=NanoUSD(10_000_000)),
)


def verified(saving: Estimate = SAVING) -> Receipt:
    measuring = moved(PREDICTED, Status.MEASURING, at=Micros(2_000), reason="begun")
    return moved(measuring, Status.VERIFIED, at=Micros(9_000), reason="saved", measured=saving)


@given(st.lists(st.sampled_from(Status), max_size=8))
def test_a_receipt_moves_only_along_its_table_and_ends_once(path: list[Status]) -> None:
    receipt = PREDICTED
    for status in path:
        allowed = status in NEXT.get(receipt.status, frozenset())
        if not allowed:
            with pytest.raises(ReceiptError, match=f"cannot become {status}"):
                moved(receipt, status, at=Micros(5_000), reason="", measured=SAVING)
            continue
        receipt = moved(receipt, status, at=Micros(5_000), reason="", measured=SAVING)
        assert (receipt.ended is None) is (status is Status.MEASURING)
    if receipt.final:
        assert receipt.status not in (Status.PREDICTED, Status.MEASURING, Status.VERIFIED)


def test_nothing_is_verified_without_a_saving_above_zero() -> None:
    measuring = moved(PREDICTED, Status.MEASURING, at=Micros(2_000), reason="begun")
    for saving in (None, Estimate(low=-0.01, expected=0.1, high=0.2)):
        with pytest.raises(ReceiptError, match="expected an interval above zero"):
            moved(measuring, Status.VERIFIED, at=Micros(3_000), reason="", measured=saving)
    with pytest.raises(ReceiptError, match="cannot become verified"):
        moved(PREDICTED, Status.VERIFIED, at=Micros(3_000), reason="", measured=SAVING)


def test_a_receipt_cannot_end_before_it_began() -> None:
    with pytest.raises(ReceiptError, match="expected an end after the beginning"):
        replace(PREDICTED, ended=Micros(999))


def test_saved_money_is_the_saving_of_what_the_tokens_would_have_cost() -> None:
    """6,000 tokens at 10,000 / 3 nano-USD each are 20,000,000; a tenth of that was saved."""
    money = saved(verified(Estimate(low=0.0625, expected=0.125, high=0.25)), Tokens(6_000))
    assert (money.low, money.expected, money.high) == (1_250_000, 2_500_000, 5_000_000)


@given(
    st.integers(0, 10**15),
    st.integers(1, 10**12),
    st.integers(0, 10**18),
    st.tuples(*[st.floats(1e-6, 0.999)] * 3),
)
def test_saved_money_is_whole_and_its_ends_are_outside(
    tokens: int, served: int, cost: int, shares: tuple[float, float, float]
) -> None:
    low, expected, high = sorted(shares)
    receipt = replace(
        verified(Estimate(low=low, expected=expected, high=high)),
        first=ArmTotals(tokens=Tokens(served), cost=NanoUSD(cost)),
    )
    money = saved(receipt, Tokens(tokens))
    before = Fraction(cost * tokens, served)
    assert money.low <= before * Fraction(low) < money.low + 1
    assert money.high - 1 < before * Fraction(high) <= money.high
    assert money.low <= money.expected <= money.high
    assert all(isinstance(one, int) for one in (money.low, money.expected, money.high))


@given(st.sampled_from([one for one in Status if one is not Status.VERIFIED]))
def test_only_a_verified_receipt_has_saved_anything(status: Status) -> None:
    receipt = replace(PREDICTED, status=status, measured=SAVING)
    assert saved(receipt, Tokens(10**9)).high == 0


def test_savings_add_up() -> None:
    one = saved(verified(), Tokens(6_000))
    both = total([one, one])
    assert (both.low, both.expected, both.high) == (2 * one.low, 2 * one.expected, 2 * one.high)
    assert total([]).high == 0


def test_negative_tokens_are_refused() -> None:
    with pytest.raises(ReceiptError, match="expected 0 or more"):
        saved(verified(), Tokens(-1))
    with pytest.raises(ReceiptError, match="expected 0 or more"):
        ArmTotals().plus(1, -1)
