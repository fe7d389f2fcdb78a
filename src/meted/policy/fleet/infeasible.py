"""When no fleet does it: which wish is in the way, and the nearest one that can be had."""

from dataclasses import replace

from meted.policy.fleet.alternatives import solved
from meted.policy.fleet.check import Checker
from meted.policy.fleet.milp import FleetProblem
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.fleet.search import Found, cheapest_that_holds
from meted.policy.fleet.wish import FleetWish


def no_fleet(
    wish: FleetWish, problem: FleetProblem, checker: Checker, last: Found | None
) -> InfeasibleError:
    """Why no fleet holds: the wish without which one would, or the latency limit that was broken.

    Tried in this order: the budget, the training, the number of devices offered.
    """
    if problem.budget is not None:
        free = replace(problem, budget=None)
        found = cheapest_that_holds(free, checker)
        if found is not None and found.holds:
            return _over_budget(problem, found)
        return no_fleet(wish, free, checker, found)
    if problem.training:
        free = replace(problem, training=())
        found = cheapest_that_holds(free, checker)
        if found is not None and found.holds:
            return _no_room_to_train(wish, problem)
        return no_fleet(wish, free, checker, found)
    if any(one.available is not None for one in problem.offers):
        offers = tuple(replace(one, available=None) for one in problem.offers)
        found = cheapest_that_holds(replace(problem, offers=offers), checker)
        if found is not None and found.holds:
            return _too_few(wish, problem)
        last = found or last
    if last is None:
        return _too_few(wish, problem)
    return _broken_tail(wish, last)


def _over_budget(problem: FleetProblem, found: Found) -> InfeasibleError:
    budget, price = problem.budget or 0.0, found.solution.dollars
    return InfeasibleError(
        f"the budget is ${budget:.2f} a month, but the cheapest fleet whose replay holds costs "
        f"${price:.2f}; raise the budget or loosen a limit",
        constraint="budget", asked=budget, nearest=price, unit="USD a month",
    )  # fmt: skip


def _no_room_to_train(wish: FleetWish, problem: FleetProblem) -> InfeasibleError:
    part = _largest(problem, training=True)
    jobs = ", ".join(one.name for one in wish.training)
    return InfeasibleError(
        f"training ({jobs}) does not fit beside serving before its deadline; {part:.0%} of its "
        "device-hours do; offer more devices or move the deadline",
        constraint="training", asked=1.0, nearest=part, unit="of the device-hours",
    )  # fmt: skip


def _too_few(wish: FleetWish, problem: FleetProblem) -> InfeasibleError:
    part = _largest(problem, training=False)
    offered = ", ".join(
        f"{'any number of' if one.available is None else one.available} {one.kind} ({one.purchase})"
        for one in wish.offers
    )
    return InfeasibleError(
        f"the offers ({offered}) hold at most {part:.0%} of the traffic before headroom for "
        "queues; offer more devices or loosen a limit",
        constraint="availability", asked=1.0, nearest=part, unit="of the traffic",
    )  # fmt: skip


def _largest(problem: FleetProblem, *, training: bool) -> float:
    """The largest part of the traffic or of the training that has a fleet, to a hundredth."""
    low, high = 0.0, 1.0
    while high - low > 0.01:
        middle = (low + high) / 2
        if solved(_part(problem, middle, training=training)) is None:
            high = middle
        else:
            low = middle
    return low


def _part(problem: FleetProblem, part: float, *, training: bool) -> FleetProblem:
    if training:
        jobs = tuple(
            replace(
                one, device_hours={kind: hours * part for kind, hours in one.device_hours.items()}
            )
            for one in problem.training
        )
        return replace(problem, training=jobs)
    headroom = tuple(tuple(room / part for room in rooms) for rooms in problem.headroom)
    return replace(problem, headroom=headroom)


def _broken_tail(wish: FleetWish, found: Found) -> InfeasibleError:
    """The limit that the last replay broke most, and what it attained."""
    broken = [
        (max(check.attained[number] for check in found.checks) / limit.micros, number)
        for number, limit in enumerate(wish.limits)
        if not all(check.holds[number] for check in found.checks)
    ]
    excess, number = max(broken)
    limit = wish.limits[number]
    nearest = excess * limit.micros
    return InfeasibleError(
        f"{limit.name} is limited to {limit.micros / 1000:.1f} ms, but replays of the traffic "
        f"attained {nearest / 1000:.1f} ms with the roomiest fleet that the offers and the budget "
        "allow; offer more or faster devices, raise the budget or loosen the limit",
        constraint=limit.name, asked=float(limit.micros), nearest=nearest, unit="us",
    )  # fmt: skip
