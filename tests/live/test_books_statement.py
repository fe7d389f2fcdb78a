"""A statement's numbers on books whose rates are known."""

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.units import Micros, NanoUSD, TenantName
from meted.ledger.rates import RateCard, price_of_request
from meted.live import books
from meted.live.store import Batch
from meted.live.stores import open_store
from meted.testing.store_rows import START, interval, request_account, request_row

CARDS = {
    "a": RateCard(input=400_000_000, cached_input=60_000_000, output=1_600_000_000, training=0),
    "b": RateCard(input=100_000_000, cached_input=10_000_000, output=9_000_000_000, training=0),
}
HOUR = 3_600_000_000
SPAN = {
    "from_us": Micros(START // HOUR * HOUR),
    "to_us": Micros(START // HOUR * HOUR + HOUR),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two tenants on one deployment, each with its own card; a token costs by its kind."""
    path = tmp_path / "books.sqlite"
    rng = random.Random(1)
    with closing(open_store(path, house="here")) as store:
        for number in range(60):
            tenant = "ab"[number % 2]
            account = replace(request_account(number), tenant=TenantName(tenant))
            prompt, cached, output = rng.randrange(50, 900), rng.randrange(50), rng.randrange(90)
            nanos = 200_000 * (prompt - cached) + 20_000 * cached + 2_000_000 * output
            price = price_of_request(
                CARDS[tenant],
                input_tokens=prompt - cached,
                cached_tokens=cached,
                output_tokens=output,
                cost=NanoUSD(0),
            )
            row = replace(
                request_row(number, nanos, price=price),
                account=account,
                prompt_tokens=prompt,
                cached_tokens=cached,
                completion_tokens=output,
            )
            store.write(Batch(closed=(interval(number, {account: nanos}),), requests=(row,)))
        store.crashed()
    return path


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("tenant", ["a", "b"])
def test_money_per_token_is_the_card_of_the_tenant_alone(
    path: Path, tenant: str, folded: bool
) -> None:
    if folded:
        later = Micros(START + 10**12)
        books.compact(path, before=Micros(later - 10**11), now=later)
    (served,) = books.statement(path, **SPAN, tenant=TenantName(tenant)).served
    if folded:
        # One sum of an hour cannot tell kinds of tokens apart.
        assert served.unit_price.input == served.unit_price.output
        return
    card = CARDS[tenant]
    assert served.unit_price.input == pytest.approx(card.input * 1_000, rel=1e-6)
    assert served.unit_price.cached == pytest.approx(card.cached_input * 1_000, rel=1e-4)
    assert served.unit_price.output == pytest.approx(card.output * 1_000, rel=1e-6)


def test_cost_per_token_is_what_its_time_costs(path: Path) -> None:
    (served,) = books.statement(path, **SPAN).served
    # A million input tokens are 200 device-seconds, at 20,000,000 nano-USD an hour.
    assert served.unit_cost.input == pytest.approx(200 * 20_000_000 / 3_600, rel=2e-2)
    assert served.unit_cost.output == pytest.approx(2_000 * 20_000_000 / 3_600, rel=2e-2)


def test_a_statement_is_the_bill_seen_from_all_sides(path: Path) -> None:
    bill, found = books.bill(path), books.statement(path, **SPAN)
    assert (found.cost, found.price, found.device_nanos) == (
        bill.nano_usd,
        bill.price,
        bill.device_nanos,
    )
    assert sum(cost for _, _, cost in found.kinds) == bill.nano_usd
    assert sum(sum(day.values()) for _, day in found.days) == bill.nano_usd
    assert sum(one.price for one in found.payers) == bill.price
    assert [one.idle for one in found.served] == [found.idle]
    assert found.requests == 60
