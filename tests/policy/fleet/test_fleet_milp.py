"""Laws of the solved fleet: it carries the traffic, costs least, and its bound is under it."""

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.market import Offer, Purchase
from meted.domain.units import NanoUSD
from meted.policy.fleet.columns import Column
from meted.policy.fleet.milp import FleetProblem, Solution, solve_fleet
from meted.policy.fleet.traffic import Bucket, Period
from meted.policy.fleet.wish import SpotRule, TrainingWish

EASY = settings(max_examples=40, deadline=None)


def offer(kind: str, dollars: float, **more: object) -> Offer:
    given_: dict[str, object] = {"purchase": Purchase.ON_DEMAND} | more
    return Offer(kind=kind, nano_usd_per_device_hour=NanoUSD(round(dollars * 1e9)), **given_)


def column(number: int, kind: str, rates: tuple[float | None, ...], devices: int = 1) -> Column:
    return Column(offer=number, kind=kind, label=kind, devices=devices, rates=rates)


def period(*rates: float, name: str = "day", hours: float = 365.0) -> Period:
    buckets = tuple(
        Bucket(prompt_tokens=100.0 * (n + 1), output_tokens=10, arrivals_per_second=rate)
        for n, rate in enumerate(rates)
    )
    return Period(name=name, hours_per_month=hours, buckets=buckets)


def problem(
    columns: tuple[Column, ...],
    offers: tuple[Offer, ...],
    periods: tuple[Period, ...],
    *,
    owned_dollars: float = 0.0,
    spot: SpotRule = SpotRule(spare=1),
    training: tuple[TrainingWish, ...] = (),
    budget: float | None = None,
) -> FleetProblem:
    return FleetProblem(
        columns=columns,
        periods=periods,
        offers=offers,
        dollars=tuple(
            owned_dollars if one.purchase is Purchase.OWNED else one.nano_usd_per_device_hour / 1e9
            for one in offers
        ),
        headroom=tuple(tuple(1.0 for _ in periods) for _ in columns),
        spot=spot,
        training=training,
        budget=budget,
    )


rates = st.floats(0.5, 8.0)
prices = st.floats(0.2, 5.0)
demand = st.floats(0.1, 9.0)


@st.composite
def two_kinds(draw: st.DrawFn) -> FleetProblem:
    offers = tuple(offer(kind, draw(prices)) for kind in ("small", "large"))
    columns = tuple(
        column(number, one.kind, (draw(rates), draw(rates))) for number, one in enumerate(offers)
    )
    periods = (
        period(draw(demand), draw(demand), name="day"),
        period(draw(demand), draw(demand), name="night"),
    )
    return problem(columns, offers, periods)


def covered(one: FleetProblem, solution: Solution) -> bool:
    """Every class is served whole, and no column is loaded above its replicas."""
    for number in range(len(one.periods)):
        for bucket in range(len(one.periods[number].buckets)):
            total = sum(row[number][bucket] for row in solution.shares)
            if not math.isclose(total, 1.0, abs_tol=1e-5):
                return False
        for place in range(len(one.columns)):
            load = sum(
                share * (one.loads(place, bucket, number) or (0.0,))[0]
                for bucket, share in enumerate(solution.shares[place][number])
            )
            if load > solution.replicas[place][number] + 1e-4:
                return False
    return True


@EASY
@given(two_kinds())
def test_a_fleet_carries_every_class_of_requests(one: FleetProblem) -> None:
    assert covered(one, solve_fleet(one))


@EASY
@given(two_kinds())
def test_bound_and_floor_lie_under_the_price(one: FleetProblem) -> None:
    solution = solve_fleet(one)
    floor = solve_fleet(replace(one, whole=False))
    assert solution.bound <= solution.dollars * (1 + 1e-9)
    assert floor.dollars <= solution.dollars * (1 + 1e-6)


@EASY
@given(two_kinds())
def test_a_mix_costs_no_more_than_one_kind_alone(one: FleetProblem) -> None:
    mixed = solve_fleet(one).dollars
    for keep in range(2):
        alone = replace(
            one,
            columns=tuple(
                column_ if place == keep else replace(column_, rates=(None, None))
                for place, column_ in enumerate(one.columns)
            ),
        )
        assert mixed <= solve_fleet(alone).dollars * (1 + 1e-4)


def brute_force(one: FleetProblem, most: int) -> float:
    """The optimum of one period and two classes by trying every count of two columns."""
    hours = one.periods[0].hours_per_month
    best = math.inf
    for counts in product(range(most + 1), repeat=2):
        loads = [[one.loads(place, bucket, 0)[0] for bucket in range(2)] for place in range(2)]
        if _carries(loads, counts):
            price = sum(count * dollars for count, dollars in zip(counts, one.dollars, strict=True))
            best = min(best, price * hours)
    return best


def _carries(loads: list[list[float]], counts: tuple[int, ...]) -> bool:
    """Whether two columns carry two classes: the first takes x and y of them. The most y at each
    x is linear, so the corners of x suffice."""
    corners = {0.0, 1.0}
    (a, b), (c, d) = loads
    ends = [counts[0] / a, (counts[0] - b) / a, (c + d - counts[1]) / c, (c - counts[1]) / c]
    if c / d != a / b:
        ends.append(((c + d - counts[1]) / d - counts[0] / b) / (c / d - a / b))
    corners |= {min(1.0, max(0.0, value)) for value in ends}
    for x in corners:
        most_y = (counts[0] - a * x) / b
        least_y = (d + c * (1 - x) - counts[1]) / d
        if max(0.0, least_y) <= min(1.0, most_y) + 1e-9 and most_y >= -1e-9:
            return True
    return False


@EASY
@given(two_kinds())
def test_the_optimum_is_that_of_trying_everything(one: FleetProblem) -> None:
    small = replace(one, periods=one.periods[:1], headroom=((1.0,), (1.0,)))
    least = min(rate for column_ in one.columns for rate in column_.rates if rate)
    most = math.ceil(small.periods[0].arrivals_per_second / least) + 1
    if most > 25:
        return
    assert solve_fleet(small).dollars == pytest.approx(brute_force(small, most), rel=1e-4)


def test_owned_devices_are_used_before_rented_ones_of_the_same_kind() -> None:
    offers = (
        offer("a", 1.0),
        offer("a", 2.0, purchase=Purchase.OWNED, available=2),
    )
    columns = (column(0, "a", (1.0,)), column(1, "a", (1.0,)))
    solution = solve_fleet(problem(columns, offers, (period(2.5),), owned_dollars=0.1))
    assert solution.replicas == ((1.0,), (2.0,))
    assert solution.dollars == pytest.approx((1.0 + 0.2) * 365, rel=1e-6)


def test_owned_devices_stay_off_when_renting_costs_less_than_their_electricity() -> None:
    offers = (offer("a", 1.0), offer("b", 2.0, purchase=Purchase.OWNED, available=9))
    columns = (column(0, "a", (4.0,)), column(1, "b", (0.5,)))
    solution = solve_fleet(problem(columns, offers, (period(2.0),), owned_dollars=0.4))
    assert solution.replicas == ((1.0,), (0.0,))


@pytest.mark.parametrize("spare", [1, 2])
def test_losing_the_spare_of_spot_replicas_leaves_enough(spare: int) -> None:
    offers = (offer("a", 1.0), offer("a", 0.3, purchase=Purchase.SPOT))
    columns = (column(0, "a", (1.0,)), column(1, "a", (1.0,)))
    one = problem(columns, offers, (period(4.0),), spot=SpotRule(spare=spare))
    solution = solve_fleet(one)
    left = solution.replicas[0][0] + max(0.0, solution.replicas[1][0] - spare)
    assert solution.replicas[1][0] > 0
    assert left >= 4.0


def test_spot_devices_are_at_most_their_part() -> None:
    offers = (offer("a", 1.0), offer("a", 0.1, purchase=Purchase.SPOT))
    columns = (column(0, "a", (1.0,)), column(1, "a", (1.0,)))
    one = problem(columns, offers, (period(6.0),), spot=SpotRule(spare=0, most_share=0.5))
    assert solve_fleet(one).replicas == ((3.0,), (3.0,))


def test_reserved_devices_are_paid_for_in_every_period() -> None:
    offers = (offer("a", 1.0), offer("a", 0.6, purchase=Purchase.RESERVED))
    columns = (column(0, "a", (1.0,)), column(1, "a", (1.0,)))
    periods = (period(4.0, name="day"), period(1.0, name="night"))
    solution = solve_fleet(problem(columns, offers, periods))
    assert solution.devices[1] == (1.0, 1.0)
    assert solution.devices[0] == (3.0, 0.0)
    assert solution.dollars == pytest.approx(365 * (3 + 2 * 0.6), rel=1e-6)


def test_whole_nodes_are_paid_for() -> None:
    offers = (offer("a", 1.0, devices=8),)
    solution = solve_fleet(problem((column(0, "a", (1.0,), devices=2),), offers, (period(4.5),)))
    assert solution.replicas == ((5.0,),)
    assert solution.devices == ((16.0,),)
    assert solution.dollars == pytest.approx(365 * 16, rel=1e-6)


def test_training_takes_what_serving_leaves_over_before_it_rents() -> None:
    offers = (offer("a", 1.0, devices=8),)
    job = TrainingWish(name="tune", device_hours={"a": 5 * 365.0 + 100}, deadline_hours=730.0)
    solution = solve_fleet(
        problem((column(0, "a", (1.0,)),), offers, (period(3.0),), training=(job,))
    )
    assert solution.lent[0, 0] == pytest.approx(5 * 365.0, rel=1e-6)
    assert solution.rented[0, 0] == pytest.approx(100, rel=1e-3)
    assert solution.dollars == pytest.approx(365 * 8 + 100, rel=1e-6)


def test_training_before_a_deadline_gets_only_the_hours_before_it() -> None:
    offers = (offer("a", 1.0, devices=8),)
    job = TrainingWish(name="tune", device_hours={"a": 365.0}, deadline_hours=36.5)
    solution = solve_fleet(
        problem((column(0, "a", (1.0,)),), offers, (period(3.0),), training=(job,))
    )
    assert solution.lent[0, 0] == pytest.approx(5 * 36.5, rel=1e-6)


def test_a_budget_under_the_optimum_has_no_fleet() -> None:
    offers = (offer("a", 1.0),)
    one = problem((column(0, "a", (1.0,)),), offers, (period(2.5),))
    price = solve_fleet(one).dollars
    assert solve_fleet(replace(one, budget=price * 1.001)).dollars == pytest.approx(price)
    assert not solve_fleet(replace(one, budget=price * 0.999)).feasible


@EASY
@given(two_kinds(), prices, rates, rates)
def test_one_more_offer_never_raises_the_price(
    one: FleetProblem, price: float, first: float, second: float
) -> None:
    more = replace(
        one,
        offers=(*one.offers, offer("third", price)),
        dollars=(*one.dollars, price),
        columns=(*one.columns, column(2, "third", (first, second))),
        headroom=(*one.headroom, (1.0, 1.0)),
    )
    assert solve_fleet(more).dollars <= solve_fleet(one).dollars * (1 + 1e-4)
