"""When no fleet does it: which wish is in the way, and the nearest one that can be had."""

from dataclasses import replace

from meted.policy.fleet.alternatives import solved
from meted.policy.fleet.milp import FleetProblem
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.fleet.search import Found
from meted.policy.fleet.wish import FleetWish


def no_fleet(wish: FleetWish, problem: FleetProblem) -> InfeasibleError:
    """Why the capacity model has no fleet: the budget, the training, or too few devices offered."""
    if problem.budget is not None:
        free = solved(replace(problem, budget=None))
        if free is not None:
            return InfeasibleError(
                f"the budget is ${problem.budget:.2f} a month; the cheapest fleet by the capacity "
                f"model costs ${free.dollars:.2f}, before headroom for queues; raise the budget or "
                "loosen a limit",
                constraint="budget", asked=problem.budget, nearest=free.dollars,
                unit="USD a month",
            )  # fmt: skip
    if problem.training and solved(replace(problem, training=(), budget=None)) is not None:
        part = _largest(replace(problem, budget=None), training=True)
        jobs = ", ".join(one.name for one in wish.training)
        return InfeasibleError(
            f"training ({jobs}) does not fit beside serving before its deadline; {part:.0%} of its "
            "device-hours do; offer more devices or move the deadline",
            constraint="training", asked=1.0, nearest=part, unit="of the device-hours",
        )  # fmt: skip
    part = _largest(replace(problem, budget=None, training=()), training=False)
    offered = ", ".join(
        f"{'any number of' if one.available is None else one.available} {one.kind} ({one.purchase})"
        for one in wish.offers
    )
    return InfeasibleError(
        f"the offers ({offered}) carry at most {part:.0%} of the traffic inside the limits; offer "
        "more devices or loosen a limit",
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


def tails_do_not_hold(wish: FleetWish, found: Found) -> InfeasibleError:
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
