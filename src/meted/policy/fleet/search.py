"""From the cheapest fleet on paper to the cheapest one whose replay holds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

from meted.domain.market import Purchase
from meted.policy.fleet.check import Checker, PeriodCheck
from meted.policy.fleet.milp import FleetProblem, Solution, solve_fleet

OPTIMISM = 1.15
"""The climb starts with rows that may be loaded above what the capacity model allows, because
classes that need different things of a device go better together than alone."""

TIGHTEN = 0.94
"""Per doubling of how often a column breaks a limit; at most five times at once."""

ROUGH = 3e-3
"""The solver's gap on the way: its fleet is replayed and exchanged anyway."""

ROUNDS = 60
MOVES = 16

Counts = tuple[tuple[int, ...], ...]
"""Replicas by column and period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fleet whose replay holds in every period, or the last one tried if none does."""

    solution: Solution
    replicas: Counts
    headroom: tuple[tuple[float, ...], ...]
    checks: tuple[PeriodCheck, ...]

    @property
    def holds(self) -> bool:
        return all(all(one.holds) for one in self.checks)


def cheapest_that_holds(problem: FleetProblem, checker: Checker) -> Found | None:
    """Climb from below until every replay holds, then try to take away again.

    The climb solves with almost no headroom and replays; where a limit fails, the columns that
    broke it may be loaded a little less, and it solves again. The way down takes single replicas
    off the fleet found, or puts cheaper ones in their place, as long as replays hold.
    None if not even the first problem has a solution.
    """
    found = _climb(problem, checker)
    while found is not None and found.holds:
        better = next(_cheaper(problem, checker, found), None)
        if better is None:
            return found
        found = better
    return found


def _climb(problem: FleetProblem, checker: Checker) -> Found | None:
    periods = range(len(problem.periods))
    headroom = [[OPTIMISM for _ in periods] for _ in problem.columns]
    found: Found | None = None
    for _ in range(ROUNDS):
        tried = replace(problem, headroom=tuple(tuple(row) for row in headroom))
        solution = solve_fleet(tried, relative_gap=ROUGH)
        if not solution.feasible:
            return found
        counts = whole_counts(solution)
        checks = replayed(problem, checker, counts)
        found = Found(solution=solution, replicas=counts, headroom=tried.headroom, checks=checks)
        if found.holds:
            return found
        for period in periods:
            for column, times in checks[period].failing:
                less = TIGHTEN ** min(5.0, 1.0 + math.log2(times))
                used = _utilisation(problem, found, column, period)
                own = headroom[column][period]
                headroom[column][period] = min(own * less, used * 0.98) if used else own * less
    return found


def whole_counts(solution: Solution) -> Counts:
    return tuple(tuple(round(one) for one in row) for row in solution.replicas)


def serving_counts(problem: FleetProblem, counts: Counts, period: int) -> tuple[int, ...]:
    """Replicas by column that are left when each spot row has lost its spare."""
    spare = problem.spot.spare

    def left(column: int) -> int:
        count = counts[column][period]
        spot = problem.offers[problem.columns[column].offer].purchase is Purchase.SPOT
        return max(0, count - spare) if spot else count

    return tuple(left(column) for column in range(len(problem.columns)))


def replayed(problem: FleetProblem, checker: Checker, counts: Counts) -> tuple[PeriodCheck, ...]:
    """Every period's replay, with the spot spare lost."""
    return tuple(
        checker.check(period, serving_counts(problem, counts, number))
        for number, period in enumerate(problem.periods)
    )


def _utilisation(problem: FleetProblem, found: Found, column: int, period: int) -> float:
    """Load of a column in a replay over its whole capacity."""
    return served_load(
        problem, found.checks[period].shares[column], column=column, period=period
    ) / max(1, serving_counts(problem, found.replicas, period)[column])


def served_load(
    problem: FleetProblem, shares: tuple[float, ...], *, column: int, period: int
) -> float:
    """Replicas' worth of work, at whole capacity, in these shares of each class."""
    rates = problem.columns[column].rates
    return sum(
        share * bucket.arrivals_per_second / rate
        for share, bucket, rate in zip(shares, problem.periods[period].buckets, rates, strict=True)
        if rate and share
    )


def _cheaper(problem: FleetProblem, checker: Checker, found: Found) -> Iterator[Found]:
    """Neighbours of a fleet that cost less and hold, cheapest first."""
    least = 1e-6 * max(1.0, found.solution.dollars)
    easy = tuple(tuple(math.inf for _ in problem.periods) for _ in problem.columns)
    options = sorted(
        _neighbours(problem, found), key=lambda counts: (_monthly(problem, counts), counts)
    )
    for counts in options[-MOVES:]:
        solution = solve_fleet(replace(problem, headroom=easy, fixed=counts))
        if not solution.feasible or solution.dollars > found.solution.dollars - least:
            continue
        checks = replayed(problem, checker, counts)
        if all(all(one.holds) for one in checks):
            yield Found(solution=solution, replicas=counts, headroom=found.headroom, checks=checks)


def _neighbours(problem: FleetProblem, found: Found) -> Iterator[Counts]:
    """One replica less in a period, or up to two replaced by up to two cheaper ones."""
    seen: set[Counts] = set()
    for period in range(len(problem.periods)):
        used = [n for n, row in enumerate(found.replicas) if row[period] > 0]
        others = [n for n in range(len(problem.columns)) if any(problem.columns[n].rates)]
        out = [(one,) for one in used] + list(combinations_with_replacement(used, 2))
        into = [(), *((one,) for one in others), *combinations_with_replacement(others, 2)]
        for gone in out:
            for come in into:
                if _price(problem, come) >= _price(problem, gone):
                    continue
                counts = [list(row) for row in found.replicas]
                for one in gone:
                    counts[one][period] -= 1
                for one in come:
                    counts[one][period] += 1
                fleet = tuple(tuple(row) for row in counts)
                if min(row[period] for row in fleet) < 0 or fleet in seen:
                    continue
                seen.add(fleet)
                if _enough(problem, fleet, period):
                    yield fleet


def _price(problem: FleetProblem, replicas: tuple[int, ...]) -> float:
    return sum(
        problem.dollars[problem.columns[one].offer] * problem.columns[one].devices
        for one in replicas
    )


def _monthly(problem: FleetProblem, counts: Counts) -> float:
    """Dollars of the replicas' devices in a month, if each were paid for alone."""
    return sum(
        problem.dollars[column.offer] * column.devices * count * period.hours_per_month
        for column, row in zip(problem.columns, counts, strict=True)
        for count, period in zip(row, problem.periods, strict=True)
    )


def _enough(problem: FleetProblem, counts: Counts, period: int) -> bool:
    """A sieve before a replay: each class has a replica that holds it, and all replicas together,
    each with the classes in the mix it can hold, are enough for the traffic."""
    traffic = problem.periods[period]
    left = serving_counts(problem, counts, period)
    served = [one for one in traffic.buckets if one.arrivals_per_second > 0]
    reached: set[int] = set()
    capacity = 0.0
    for column, count in zip(problem.columns, left, strict=True):
        if count <= 0:
            continue
        able = work = 0.0
        for number, (bucket, rate) in enumerate(zip(traffic.buckets, column.rates, strict=True)):
            if rate and bucket.arrivals_per_second > 0:
                reached.add(number)
                able += bucket.arrivals_per_second
                work += bucket.arrivals_per_second / rate
        capacity += count * able / work if work else 0.0
    return len(reached) == len(served) and capacity * OPTIMISM >= traffic.arrivals_per_second
