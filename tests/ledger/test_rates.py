"""Rates: charges by hand, the worst case is never too low, and which rates hold for whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import DeploymentName, DeviceNanos, Micros, NanoUSD, TenantName
from meted.ledger.rates import (
    ByCost,
    RateBook,
    RateCard,
    Rates,
    RateVersion,
    affordable_output_tokens,
    price_of_request,
    price_of_training,
    worst_price,
)

# $2.50, $1.25 and $10 per million tokens; $0.001 per device-second of training.
CARD = RateCard(input=2_500_000, cached_input=1_250_000, output=10_000_000, training=1_000_000)
ACME, OTHER = TenantName("acme"), TenantName("other")
CHAT, EMBED = DeploymentName("chat"), DeploymentName("embed")

RATE = st.integers(min_value=0, max_value=10**8)
TOKENS = st.integers(min_value=0, max_value=10**6)
MONEY = st.integers(min_value=0, max_value=10**12)
RATES = st.one_of(
    st.builds(ByCost, markup_permille=st.integers(min_value=-1000, max_value=5000)),
    st.builds(RateCard, input=RATE, cached_input=RATE, output=RATE, training=RATE),
)


def charged(
    rates: Rates, *, input_tokens: int = 0, cached: int = 0, output: int = 0, cost: int = 0
) -> NanoUSD:
    return price_of_request(
        rates,
        input_tokens=input_tokens,
        cached_tokens=cached,
        output_tokens=output,
        cost=NanoUSD(cost),
    )


def test_a_rate_card_charges_by_the_token() -> None:
    # 1000 * 2500 + 400 * 1250 + 200 * 10000 nano-USD, whatever it cost.
    assert charged(CARD, input_tokens=1_000, cached=400, output=200, cost=7) == 5_000_000


def test_a_million_tokens_are_charged_their_rate() -> None:
    assert charged(CARD, input_tokens=1_000_000) == 2_500_000_000


def test_a_request_is_rounded_down_once() -> None:
    thirds = RateCard(input=600, cached_input=600, output=600, training=0)
    assert charged(thirds, input_tokens=1) == 0
    assert charged(thirds, input_tokens=1, cached=1, output=1) == 1


@pytest.mark.parametrize(
    ("markup", "cost", "expected"),
    [(0, 12_345, 12_345), (200, 1_000, 1_200), (200, 4, 4), (-1000, 999, 0), (-500, 3, 1)],
)
def test_charge_back_is_cost_and_markup_rounded_down(markup: int, cost: int, expected: int) -> None:
    rates = ByCost(markup_permille=markup)
    assert charged(rates, input_tokens=10**9, cost=cost) == expected
    assert price_of_training(rates, DeviceNanos(10**12), NanoUSD(cost)) == expected


@given(rates=RATES, data=st.data(), prompt=TOKENS, output=TOKENS, cost=MONEY)
def test_no_request_within_the_bounds_is_charged_more_than_the_worst_price(
    rates: Rates, data: st.DataObject, prompt: int, output: int, cost: int
) -> None:
    used = data.draw(st.integers(0, prompt))
    cached = data.draw(st.integers(0, used))
    worst = worst_price(
        rates,
        prompt_tokens_most=prompt,
        output_tokens_most=output,
        predicted_cost_most=NanoUSD(cost),
    )
    price = charged(
        rates,
        input_tokens=used - cached,
        cached=cached,
        output=data.draw(st.integers(0, output)),
        cost=data.draw(st.integers(0, cost)),
    )
    assert 0 <= price <= worst


@given(rates=RATES, prompt=TOKENS, output=TOKENS, cost=MONEY)
def test_the_worst_price_is_one_that_can_happen(
    rates: Rates, prompt: int, output: int, cost: int
) -> None:
    worst = worst_price(
        rates,
        prompt_tokens_most=prompt,
        output_tokens_most=output,
        predicted_cost_most=NanoUSD(cost),
    )
    uncached = charged(rates, input_tokens=prompt, output=output, cost=cost)
    cached = charged(rates, cached=prompt, output=output, cost=cost)
    assert worst == max(uncached, cached)


@given(
    rates=RATES,
    parts=st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**6)), max_size=20),
)
def test_training_charged_in_parts_adds_up_to_the_whole(
    rates: Rates, parts: list[tuple[int, int]]
) -> None:
    nanos, cost, total = DeviceNanos(0), NanoUSD(0), 0
    for more_nanos, more_cost in parts:
        before = price_of_training(rates, nanos, cost)
        nanos, cost = DeviceNanos(nanos + more_nanos), NanoUSD(cost + more_cost)
        part = price_of_training(rates, nanos, cost) - before
        assert part >= 0
        total += part
    assert total == price_of_training(rates, nanos, cost)


@pytest.mark.parametrize(
    ("nanos", "expected"),
    [(2_500_000_000, 2_500_000), (999, 0), (1_999, 1), (2**60 * 1_000 + 1_999, 2**60 + 1)],
)
def test_training_is_charged_by_the_device_second_rounded_down(nanos: int, expected: int) -> None:
    assert price_of_training(CARD, DeviceNanos(nanos), NanoUSD(7)) == expected


@given(
    card=st.builds(
        RateCard, input=RATE, cached_input=RATE, output=RATE.map(lambda r: r + 1), training=RATE
    ),
    money=MONEY,
    prompt=TOKENS,
    cached=TOKENS,
)
def test_the_affordable_output_is_the_last_that_the_money_pays(
    card: RateCard, money: int, prompt: int, cached: int
) -> None:
    most = affordable_output_tokens(card, NanoUSD(money), input_tokens=prompt, cached_tokens=cached)
    assert most is not None
    if charged(card, input_tokens=prompt, cached=cached) > money:
        assert most == 0
    else:
        assert charged(card, input_tokens=prompt, cached=cached, output=most) <= money
        assert charged(card, input_tokens=prompt, cached=cached, output=most + 1) > money


def test_where_tokens_do_not_set_the_charge_money_bounds_no_tokens() -> None:
    free_output = RateCard(input=1_000, cached_input=0, output=0, training=0)
    for rates in (ByCost(), free_output):
        most = affordable_output_tokens(rates, NanoUSD(5), input_tokens=5, cached_tokens=0)
        assert most is None
    assert affordable_output_tokens(free_output, NanoUSD(5), input_tokens=6, cached_tokens=0) == 0


def test_nothing_negative_is_charged() -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        charged(CARD, output=-1)
    with pytest.raises(ValueError, match="expected 0 or more"):
        worst_price(
            ByCost(),
            prompt_tokens_most=1,
            output_tokens_most=-1,
            predicted_cost_most=NanoUSD(0),
        )
    with pytest.raises(ValueError, match="expected 0 or more"):
        affordable_output_tokens(CARD, NanoUSD(1), input_tokens=-1, cached_tokens=0)
    with pytest.raises(ValueError, match="rate 'output' is -1"):
        RateCard(input=0, cached_input=0, output=-1, training=0)
    with pytest.raises(ValueError, match="markup_permille is -1001"):
        ByCost(markup_permille=-1001)


def version(
    markup: int | None,
    *,
    tenant: TenantName | None = None,
    deployment: DeploymentName | None = None,
    effective: int = 0,
    recorded: int = 0,
) -> RateVersion:
    return RateVersion(
        effective=Micros(effective),
        recorded=Micros(recorded),
        rates=None if markup is None else ByCost(markup_permille=markup),
        tenant=tenant,
        deployment=deployment,
    )


def markup(
    book: RateBook, tenant: TenantName, deployment: DeploymentName | None, moment: int = 0
) -> int:
    rates = book.at(tenant, deployment, Micros(moment))
    assert isinstance(rates, ByCost)
    return rates.markup_permille


def test_the_narrowest_scope_wins() -> None:
    book = RateBook(
        versions=(
            version(1, tenant=ACME, deployment=CHAT),
            version(2, tenant=ACME),
            version(3, deployment=CHAT),
            version(4),
        )
    )
    assert markup(book, ACME, CHAT) == 1
    assert markup(book, ACME, EMBED) == 2
    assert markup(book, ACME, None) == 2
    assert markup(book, OTHER, CHAT) == 3
    assert markup(book, OTHER, EMBED) == 4
    assert markup(book, OTHER, None) == 4


def test_a_narrower_scope_waits_for_its_moment() -> None:
    book = RateBook(versions=(version(1), version(2, tenant=ACME, effective=10)))
    assert markup(book, ACME, CHAT, moment=9) == 1
    assert markup(book, ACME, CHAT, moment=10) == 2


def test_the_last_recorded_of_equal_moments_wins() -> None:
    book = RateBook().with_version(version(1)).with_version(version(2, recorded=1))
    assert markup(book, ACME, CHAT) == 2


def test_a_scope_that_ends_gives_way_to_the_wider_one() -> None:
    book = RateBook(
        versions=(version(1), version(2, tenant=ACME), version(None, tenant=ACME, effective=10))
    )
    assert markup(book, ACME, CHAT, moment=9) == 2
    assert markup(book, ACME, CHAT, moment=10) == 1
    assert book.changes(ACME, CHAT, after=Micros(0), until=Micros(99)) == (10,)
    assert book.changes(OTHER, CHAT, after=Micros(0), until=Micros(99)) == ()


def test_a_wider_scope_changes_nothing_for_those_with_rates_of_their_own() -> None:
    book = RateBook(
        versions=(version(1), version(2, tenant=ACME), version(9, effective=5, recorded=1))
    )
    assert book.changes(ACME, CHAT, after=Micros(0), until=Micros(99)) == ()
    assert book.changes(OTHER, None, after=Micros(-1), until=Micros(99)) == (0, 5)
    assert book.changes(OTHER, None, after=Micros(5), until=Micros(99)) == ()


def test_without_rates_the_known_scopes_are_named() -> None:
    book = RateBook(versions=(version(1, tenant=ACME, deployment=CHAT), version(1, tenant=ACME)))
    with pytest.raises(
        ValueError,
        match="tenant 'other' and deployment 'chat' at 3; the rate book knows rates for "
        "tenant 'acme' on deployment 'chat', tenant 'acme';",
    ):
        book.at(OTHER, CHAT, Micros(3))
    with pytest.raises(ValueError, match="knows rates for none;"):
        RateBook().at(ACME, None, Micros(3))


def test_the_book_only_grows() -> None:
    first = version(1, recorded=10)
    book = RateBook().with_version(first)
    with pytest.raises(ValueError, match="the rate book was last written at 10"):
        book.with_version(version(2, recorded=9))
    with pytest.raises(ValueError, match=r"the rate book holds .* already"):
        book.with_version(first)


SCOPES = st.sampled_from([(ACME, CHAT), (ACME, None), (None, CHAT), (None, None), (OTHER, CHAT)])


@given(
    versions=st.lists(st.tuples(SCOPES, st.integers(0, 9), st.integers(1, 5)), max_size=12),
    moment=st.integers(0, 10),
)
def test_what_holds_is_what_a_plain_search_finds(
    versions: list[tuple[tuple[TenantName | None, DeploymentName | None], int, int]], moment: int
) -> None:
    book = RateBook(versions=(version(0, effective=-1),))
    winner = ((0, 0, -1, -1), 0)
    for order, ((tenant, deployment), effective, rate) in enumerate(versions):
        book = book.with_version(
            version(rate, tenant=tenant, deployment=deployment, effective=effective, recorded=order)
        )
        if effective <= moment and tenant in (None, ACME) and deployment in (None, CHAT):
            rank = (int(tenant is not None), int(deployment is not None), effective, order)
            winner = max(winner, (rank, rate))
    assert markup(book, ACME, CHAT, moment) == winner[1]
