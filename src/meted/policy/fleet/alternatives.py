"""What else there was, why it loses, and how the price moves with prices and traffic.

All of it by the capacity model with the headroom of the plan's own climb; nothing is replayed here.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from meted.domain.market import Purchase
from meted.domain.units import NANOS_PER_SECOND, NanoUSD
from meted.policy.fleet.columns import CHUNK, Column
from meted.policy.fleet.milp import FleetProblem, Solution, solve_fleet
from meted.policy.fleet.plan import Alternative, SensitivityRow
from meted.policy.fleet.search import ROUGH, Found

NANO = NANOS_PER_SECOND
MOST = 6


def nano_per_hour(problem: FleetProblem, solution: Solution) -> NanoUSD:
    """Mean over the month."""
    return NanoUSD(round(solution.dollars / problem.hours * NANO))


def fleet_words(problem: FleetProblem, solution: Solution) -> str:
    """The fleet in words: replicas by column, the periods in order."""
    told: list[str] = []
    for column, counts in zip(problem.columns, solution.replicas, strict=True):
        whole = [round(one) for one in counts]
        if any(whole):
            least, most = min(whole), max(whole)
            told.append(f"{least if least == most else f'{least}-{most}'} x {column.label}")
    return ", ".join(told) or "nothing"


def only(problem: FleetProblem, keeps: Callable[[Column], bool]) -> Solution | None:
    """The cheapest fleet of the columns that are kept."""
    blocked = tuple(
        one if keeps(one) else replace(one, rates=tuple(None for _ in one.rates))
        for one in problem.columns
    )
    return solved(replace(problem, columns=blocked))


def solved(problem: FleetProblem) -> Solution | None:
    """Its cheapest fleet, None if there is none or a class of requests has no column."""
    for bucket in range(len(problem.periods[0].buckets)):
        if not any(column.rates[bucket] for column in problem.columns):
            return None
    solution = solve_fleet(problem, relative_gap=ROUGH)
    return solution if solution.feasible else None


def single_kinds(problem: FleetProblem, best: float) -> tuple[Alternative, ...]:
    """The cheapest fleet of each kind of device alone."""
    kinds = sorted({offer.kind for offer in problem.offers})
    return tuple(
        _told(
            problem,
            name=f"only {kind}",
            solution=only(problem, lambda column, kind=kind: column.kind == kind),
            best=best,
            nothing=f"{kind} alone cannot serve every class of requests inside the limits, "
            "or too few of them are offered",
        )
        for kind in kinds
    )


def next_best(problem: FleetProblem, found: Found, best: float) -> tuple[Alternative, ...]:
    """The cheapest fleets without one thing that the plan uses, cheapest first."""
    used = [
        column
        for column, counts in zip(problem.columns, found.replicas, strict=True)
        if any(counts)
    ]
    ways = sorted({_way(one) for one in used})
    tried: list[tuple[str, Solution | None]] = [
        (f"without {way}", only(problem, lambda column, way=way: _way(column) != way))
        for way in ways
    ]
    kinds = sorted({one.kind for one in used})
    if len(kinds) > 1:
        tried += [
            (f"without {kind}", only(problem, lambda column, kind=kind: column.kind != kind))
            for kind in kinds
        ]
    for purchase in (Purchase.SPOT, Purchase.RESERVED, Purchase.OWNED):
        if any(problem.offers[one.offer].purchase is purchase for one in used):
            tried.append(
                (
                    f"without {purchase} devices",
                    only(
                        problem,
                        lambda column, purchase=purchase: (
                            problem.offers[column.offer].purchase is not purchase
                        ),
                    ),
                )
            )
    told = {
        name: _told(
            problem,
            name=name,
            solution=solution,
            best=best,
            nothing="the rest cannot serve every class of requests inside the limits, "
            "or too few devices are offered",
        )
        for name, solution in tried
    }
    ordered = sorted(told.values(), key=lambda one: (one.nano_usd_per_hour or math.inf, one.name))
    return tuple(_unlike(ordered))[:MOST]


def _way(column: Column) -> str:
    """A column's label but for its chunk, by which nobody would call it another way of serving."""
    return column.label.split(CHUNK)[0]


def _unlike(alternatives: Iterable[Alternative]) -> Iterable[Alternative]:
    """Of equal fleets the first."""
    seen: set[str] = set()
    for one in alternatives:
        if one.nano_usd_per_hour is None or one.fleet not in seen:
            seen.add(one.fleet)
            yield one


def _told(
    problem: FleetProblem, *, name: str, solution: Solution | None, best: float, nothing: str
) -> Alternative:
    """best: dollars a month of the plan."""
    if solution is None:
        return Alternative(name=name, nano_usd_per_hour=None, fleet="none", why=nothing)
    hourly = solution.dollars / problem.hours
    more = hourly - best / problem.hours
    if best > 0 and more > 0.0005:
        why = f"costs ${more:.2f}/h more (+{more / (best / problem.hours):.0%})"
    elif more > -0.0005:
        why = "costs the same; the first of equals was kept"
    else:
        why = f"is ${-more:.2f}/h cheaper on paper, but was not replayed or its replay failed"
    return Alternative(
        name=name,
        nano_usd_per_hour=nano_per_hour(problem, solution),
        fleet=fleet_words(problem, solution),
        why=why,
    )


def sensitivity(problem: FleetProblem, found: Found) -> tuple[SensitivityRow, ...]:
    """Prices of the kinds in use, and traffic, a fifth up and down."""
    base = solved(problem)
    kinds = sorted(
        {
            column.kind
            for column, counts in zip(problem.columns, found.replicas, strict=True)
            if any(counts)
        }
    )
    rows: list[SensitivityRow] = []
    for factor in (0.8, 1.2):
        told = f"{factor - 1:+.0%}"
        for kind in kinds:
            dollars = tuple(
                price * (factor if offer.kind == kind else 1.0)
                for price, offer in zip(problem.dollars, problem.offers, strict=True)
            )
            rows.append(_row(replace(problem, dollars=dollars), f"price of {kind} {told}", base))
        periods = tuple(
            replace(
                period,
                buckets=tuple(
                    replace(one, arrivals_per_second=one.arrivals_per_second * factor)
                    for one in period.buckets
                ),
            )
            for period in problem.periods
        )
        rows.append(_row(replace(problem, periods=periods), f"traffic {told}", base))
    return tuple(rows)


def _row(problem: FleetProblem, change: str, base: Solution | None) -> SensitivityRow:
    solution = solved(problem)
    return SensitivityRow(
        change=change,
        nano_usd_per_hour=None if solution is None else nano_per_hour(problem, solution),
        same_fleet=solution is not None and base is not None and solution.replicas == base.replicas,
    )
