"""Wish in, plan out: the cheapest fleet whose replay holds, and everything that is told of it."""

from dataclasses import replace

from meted.domain.market import Offer, Purchase
from meted.domain.units import NANOS_PER_SECOND, NanoUSD
from meted.policy.fleet.alternatives import next_best, sensitivity, single_kinds
from meted.policy.fleet.bound import least_loads
from meted.policy.fleet.check import Checker, PeriodCheck
from meted.policy.fleet.columns import columns, dollars_per_hour
from meted.policy.fleet.infeasible import no_fleet
from meted.policy.fleet.milp import FleetProblem, Solution, solve_fleet
from meted.policy.fleet.plan import (
    FleetPlan,
    FleetRow,
    LimitVerdict,
    OfferRow,
    ReplayVerdict,
    TrainingRow,
)
from meted.policy.fleet.search import ROUGH, Found, cheapest_that_holds, served_load, serving_counts
from meted.policy.fleet.traffic import Bucket
from meted.policy.fleet.wish import FleetWish

NANO = NANOS_PER_SECOND


def plan_fleet(wish: FleetWish) -> FleetPlan:
    """The cheapest fleet found that holds every limit in its replay.

    Raises InfeasibleError that names the wish in the way and the nearest value that can be had.
    """
    problem = problem_of(wish)
    checker = Checker(
        columns=problem.columns,
        limits=wish.limits,
        sample=wish.traffic.sample,
        margin=wish.margin,
        requests=wish.replayed_requests,
    )
    found = cheapest_that_holds(problem, checker)
    if found is None or not found.holds:
        raise no_fleet(wish, problem, checker, found)
    return _told(wish, problem, found, checker)


def problem_of(wish: FleetWish) -> FleetProblem:
    """The wish as what is solved, with no headroom for queues yet.

    Raises InfeasibleError if a class of requests cannot be served inside the limits at all.
    """
    periods = wish.traffic.periods
    busiest = tuple(_busiest(wish, number) for number in range(len(periods[0].buckets)))
    found = columns(wish, busiest)
    return FleetProblem(
        columns=found,
        periods=periods,
        offers=wish.offers,
        dollars=tuple(dollars_per_hour(offer, wish) for offer in wish.offers),
        headroom=tuple(tuple(1.0 for _ in periods) for _ in found),
        spot=wish.spot,
        training=wish.training,
        budget=None if wish.budget is None else wish.budget / NANO,
    )


def _busiest(wish: FleetWish, number: int) -> Bucket:
    return max(
        (period.buckets[number] for period in wish.traffic.periods),
        key=lambda one: one.arrivals_per_second,
    )


def _told(wish: FleetWish, problem: FleetProblem, found: Found, checker: Checker) -> FleetPlan:
    solution = found.solution
    same = replace(problem, headroom=found.headroom)
    least = least_loads(problem)
    bound = solve_fleet(least, relative_gap=ROUGH).bound
    floor = solve_fleet(replace(least, whole=False)).dollars
    training = _training_rows(wish, problem, solution)
    serving = solution.dollars - sum(one.nano_usd for one in training) / NANO
    tokens = wish.traffic.tokens_per_month()
    return FleetPlan(
        periods=tuple(one.name for one in problem.periods),
        rows=_rows(problem, found),
        offers=_offer_rows(problem, found),
        training=training,
        nano_usd_per_hour=tuple(
            _hourly(problem, solution, period) for period in range(len(problem.periods))
        ),
        nano_usd_per_month=NanoUSD(round(solution.dollars * NANO)),
        sunk_nano_usd_per_month=_sunk(problem),
        nano_usd_per_million_tokens=NanoUSD(round(serving * NANO / max(tokens / 1e6, 1e-9))),
        bound=NanoUSD(round(bound * NANO)),
        gap=(solution.dollars - bound) / solution.dollars if solution.dollars else 0.0,
        floor=NanoUSD(round(floor * NANO)),
        solver=f"HiGHS: {solution.status}, gap {solution.gap:.2%}",
        replay=_verdict(wish, found.checks, checker),
        headroom={
            column.label: min(rooms)
            for column, rooms in zip(problem.columns, found.headroom, strict=True)
        },
        alternatives=next_best(same, found, solution.dollars),
        single_kind=single_kinds(same, solution.dollars),
        sensitivity=sensitivity(same, found),
        binding=_binding(wish, problem, found),
        lent_device_hours=sum(solution.lent.values()),
        idle_device_hours=_idle(problem, solution),
    )


def _rows(problem: FleetProblem, found: Found) -> tuple[FleetRow, ...]:
    rows: list[FleetRow] = []
    for number, column in enumerate(problem.columns):
        counts = found.replicas[number]
        if not any(counts):
            continue
        assert column.setup is not None, "a column of a wish has a setup"
        rows.append(
            FleetRow(
                offer=problem.offers[column.offer],
                setup=column.setup,
                devices_per_replica=column.devices,
                replicas=counts,
                shares=tuple(check.shares[number] for check in found.checks),
                utilisation=tuple(
                    served_load(problem, check.shares[number], column=number, period=period)
                    / max(1, serving_counts(problem, found.replicas, period)[number])
                    for period, check in enumerate(found.checks)
                ),
            )
        )
    return tuple(rows)


def _hourly(problem: FleetProblem, solution: Solution, period: int) -> NanoUSD:
    return NanoUSD(
        round(
            NANO
            * sum(
                price * devices[period]
                for price, devices in zip(problem.dollars, solution.devices, strict=True)
            )
        )
    )


def _offer_rows(problem: FleetProblem, found: Found) -> tuple[OfferRow, ...]:
    solution = found.solution
    return tuple(
        OfferRow(
            offer=offer,
            devices=tuple(round(one) for one in devices),
            nano_usd_per_month=NanoUSD(
                round(
                    NANO
                    * price
                    * sum(
                        count * period.hours_per_month
                        for count, period in zip(devices, problem.periods, strict=True)
                    )
                )
            ),
        )
        for offer, devices, price in zip(
            problem.offers, solution.devices, problem.dollars, strict=True
        )
        if any(round(one) for one in devices)
    )


def _training_rows(
    wish: FleetWish, problem: FleetProblem, solution: Solution
) -> tuple[TrainingRow, ...]:
    rows: list[TrainingRow] = []
    for number, job in enumerate(wish.training):
        for place, offer in enumerate(wish.offers):
            lent = solution.lent.get((number, place), 0.0)
            rented = solution.rented.get((number, place), 0.0)
            if lent + rented < 1e-6:
                continue
            paid = rented + (lent if offer.purchase is Purchase.OWNED else 0.0)
            rows.append(
                TrainingRow(
                    job=job.name,
                    offer=offer,
                    lent_device_hours=lent,
                    rented_device_hours=rented,
                    nano_usd=NanoUSD(round(paid * problem.dollars[place] * NANO)),
                )
            )
    return tuple(rows)


def _sunk(problem: FleetProblem) -> NanoUSD:
    return NanoUSD(
        round(
            problem.hours
            * sum(
                offer.nano_usd_per_device_hour * (offer.available or 0)
                for offer in problem.offers
                if offer.purchase is Purchase.OWNED
            )
        )
    )


def _verdict(wish: FleetWish, checks: tuple[PeriodCheck, ...], checker: Checker) -> ReplayVerdict:
    return ReplayVerdict(
        limits=tuple(
            LimitVerdict(
                limit=limit,
                attained=tuple(check.attained[number] for check in checks),
                attainment=tuple(check.attainment[number] for check in checks),
                holds=all(check.holds[number] for check in checks),
            )
            for number, limit in enumerate(wish.limits)
        ),
        requests=sum(check.requests for check in checks),
        plans_tried=checker.tried,
    )


def _binding(wish: FleetWish, problem: FleetProblem, found: Found) -> tuple[str, ...]:
    """What holds the price up: limits that are nearly used up, offers used to their end, budget."""
    told: list[str] = []
    for number, limit in enumerate(wish.limits):
        most = max(check.attained[number] for check in found.checks)
        if most >= 0.8 * limit.micros:
            told.append(f"{limit.name}: {most / 1000:.0f} of {limit.micros / 1000:.0f} ms used")
    for offer, devices in zip(problem.offers, found.solution.devices, strict=True):
        if offer.available is not None and max(devices) > offer.available - offer.devices:
            told.append(f"all {offer.available} {offer.kind} ({offer.purchase}) are in use")
    if problem.budget is not None and found.solution.dollars >= 0.95 * problem.budget:
        told.append(f"the budget: ${found.solution.dollars:.0f} of ${problem.budget:.0f} a month")
    return tuple(told)


def _idle(problem: FleetProblem, solution: Solution) -> dict[str, float]:
    """Device-hours a month by kind that are paid for, or owned, and that no one uses."""
    idle: dict[str, float] = {}
    for place, offer in enumerate(problem.offers):
        lent = sum(hours for (_, one), hours in solution.lent.items() if one == place)
        hours = -lent
        for period, traffic in enumerate(problem.periods):
            used = sum(
                column.devices * round(solution.replicas[number][period])
                for number, column in enumerate(problem.columns)
                if column.offer == place
            )
            hours += (_had(offer, solution, place, period) - used) * traffic.hours_per_month
        if hours > 0.5:
            idle[offer.kind] = idle.get(offer.kind, 0.0) + hours
    return idle


def _had(offer: Offer, solution: Solution, place: int, period: int) -> float:
    if offer.purchase is Purchase.OWNED and offer.available is not None:
        return float(offer.available)
    return solution.devices[place][period]
