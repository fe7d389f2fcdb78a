"""The simulation's books: every moment of every device in one line, at its price to the
nano-dollar, whatever comes, fails or changes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_scenarios import Mixed, make_mixed
from serving_scenarios import PRICE, SECOND, Counts, make_serving, replica, request

from meted.domain.pool import Pool, Price
from meted.domain.units import Micros, NanoUSD
from meted.sim.books import MICROS_PER_HOUR, BooksError, account
from meted.sim.faults import node_failures, price_moves, spot_interruptions, together
from meted.sim.result import Result, Use
from meted.sim.scenario import Outage, PriceChange, Scenario
from meted.sim.world import simulate

DAY = Micros(24 * MICROS_PER_HOUR)


def booked(scenario: Scenario) -> tuple[Result, Pool]:
    return simulate(scenario), scenario.pool


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), nodes=st.integers(1, 3))
def test_every_moment_of_every_device_is_in_one_line(seed: int, nodes: int) -> None:
    scenario = make_mixed(seed, nodes=nodes)
    result = simulate(scenario)
    books = account(result, scenario.pool, scenario.price_changes)
    assert books.device_micros == result.ended * len(scenario.pool.devices)
    assert books.cost == sum(one.cost for one in result.segments)
    assert sum(books.by_tenant().values()) == books.cost


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_jobs_cost_what_their_lines_cost(seed: int) -> None:
    scenario = make_mixed(seed)
    result = simulate(scenario)
    books = account(result, scenario.pool, scenario.price_changes)
    for job in result.jobs:
        assert job.cost == sum(line.cost for line in books.lines if line.who == job.name)


def test_capacity_at_one_price_is_the_sum_of_the_lines() -> None:
    one_price = Price(nano_usd_per_device_hour=NanoUSD(1_234_567_891))
    scenario = make_serving(
        [request(3 + i) for i in range(20)], policy=Counts(by_second=(1, 2, 3)), devices=3
    )
    scenario = replace(scenario, pool=replace(scenario.pool, price=one_price))
    result, pool = booked(scenario)
    whole = result.ended * one_price.nano_usd_per_device_hour // MICROS_PER_HOUR
    assert account(result, pool).cost == 3 * whole


def test_price_change_counts_from_its_moment() -> None:
    dearer = replace(PRICE, nano_usd_per_device_hour=NanoUSD(9_000_000_001))
    change = PriceChange(at=Micros(5_500_000), prices={"gpu": dearer})
    scenario = make_serving(
        [request(5, output=2_000)],
        policy=Counts(by_second=(1,)),
        devices=1,
        price_changes=[change],
        load=0,
    )
    result, pool = booked(scenario)
    owed = 5_500_000 * 3_000_000_007 + (result.ended - 5_500_000) * 9_000_000_001
    assert account(result, pool, [change]).cost == owed // MICROS_PER_HOUR
    with pytest.raises(BooksError, match="expected the same"):
        account(result, pool)


def test_lost_devices_cost_nothing_while_they_are_gone() -> None:
    outage = Outage(at=Micros(SECOND), devices=frozenset({0}), back=Micros(3 * SECOND), reason="x")
    scenario = make_serving(
        [request(9)], policy=Counts(by_second=(0,)), devices=1, outages=[outage], horizon=4 * SECOND
    )
    result, pool = booked(scenario)
    books = account(result, pool)
    assert books.cost == 2 * SECOND * 1_000_000_001 // MICROS_PER_HOUR
    gone = [line.device_micros for line in books.lines if line.use is Use.GONE]
    assert gone == [2 * SECOND]


def test_busy_time_is_split_over_tenants_by_their_tokens() -> None:
    asked = [
        request(4, prompt=1, output=3_000, tenant="a"),
        request(4, prompt=1, output=1_000, tenant="b"),
        request(9, prompt=1, output=1_000, tenant="b"),
    ]
    model = replica(max_batch=2)
    scenario = make_serving(asked, policy=Counts(by_second=(1,)), devices=1, model=model)
    result, pool = booked(scenario)
    books = account(result, pool)
    serving = {line.tenant: line.device_micros for line in books.lines if line.use is Use.SERVING}
    assert sum(serving.values()) == 4 * SECOND
    assert serving["b"] == pytest.approx(1.5 * SECOND, rel=0.02)
    ready = {line.tenant for line in books.lines if line.use is Use.READY}
    assert ready == {"host"}


def test_books_that_lack_a_moment_do_not_pass() -> None:
    result, pool = booked(make_serving([request(3)], policy=Counts(by_second=(1,)), devices=1))
    with pytest.raises(BooksError, match="begins at"):
        account(replace(result, segments=list(result.segments)[1:]), pool)
    with pytest.raises(BooksError, match="the end"):
        account(replace(result, segments=list(result.segments)[:-1]), pool)
    first = result.segments[0]
    dearer = [replace(first, cost=NanoUSD(first.cost + 1)), *result.segments[1:]]
    with pytest.raises(BooksError, match="expected the same"):
        account(replace(result, segments=dearer), pool)


def test_mixed_scenario_has_everything_in_it() -> None:
    """What the property tests are about is in their scenarios."""
    uses = set[Use]()
    for seed in range(12):
        scenario: Mixed = make_mixed(seed)
        uses |= {one.use for one in simulate(scenario).segments}
        assert scenario.outages or scenario.price_changes or scenario.jobs
    assert uses >= {
        Use.SERVING, Use.READY, Use.LOADING, Use.TRAINING, Use.RESTARTING, Use.IDLE, Use.GONE,
    }  # fmt: skip


def test_faults_and_prices_of_a_day_balance_too() -> None:
    scenario = make_serving(
        [request(60 * i) for i in range(1, 200)],
        policy=Counts(by_second=(2,)),
        nodes=2,
        interval=600 * SECOND,
        horizon=DAY,
    )
    pool = replace(scenario.pool, spot=frozenset({"gpu"}))
    hour = Micros(MICROS_PER_HOUR)
    scenario = replace(
        scenario,
        pool=pool,
        outages=together(
            node_failures(pool, mtbf=Micros(6 * hour), mttr=hour, until=DAY, seed=1),
            spot_interruptions(pool, per_device_hour={"gpu": 0.2}, away=hour, until=DAY, seed=1),
        ),
        price_changes=price_moves(
            "gpu", PRICE, every=hour, volatility=0.1, reversion=0.1, until=DAY, seed=1
        ),
    )
    assert scenario.outages and scenario.price_changes
    account(simulate(scenario), pool, scenario.price_changes)
