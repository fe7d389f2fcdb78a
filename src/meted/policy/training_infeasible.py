"""Why no training run does what was wished, and the nearest that can be had."""

from collections.abc import Sequence
from dataclasses import replace

from meted.domain.units import NanoUSD
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.training_search import Layout, layouts
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.estimate import Estimate
from meted.predict.training.efficiency import Efficiency
from meted.predict.training.goodput import FailuresError
from meted.predict.training.memory import TrainingDoesNotFitError

MOST_DEVICES = 16_384
"""Devices up to which the fewest that fit are searched."""


def does_not_fit(
    wish: TrainingWish,
    misfits: Sequence[tuple[TrainingChoice, TrainingDoesNotFitError]],
    known: Efficiency,
) -> InfeasibleError:
    """No choice holds the model; nearest: how many devices of the one that lacks least would."""
    choice, error = min(misfits, key=lambda one: one[1].needed_bytes / one[1].room_bytes)
    nearest = _fewest_that_fit(wish, choice, known)
    more = (
        f"{nearest} of them would do"
        if nearest is not None
        else f"not even {MOST_DEVICES} of them would do"
    )
    return InfeasibleError(
        f"{choice} cannot hold the run in any layout: {error}; {more}",
        constraint="memory",
        asked=choice.devices,
        nearest=nearest,
        unit="devices",
    )


def too_slow(deadline: float, fastest: Layout, hours: Estimate) -> InfeasibleError:
    """No choice keeps the deadline; nearest: the hours of the fastest."""
    return InfeasibleError(
        f"no choice of devices keeps the deadline of {deadline:,.1f} h: the fastest, "
        f"{fastest.choice}, takes {hours.expected:,.1f} h ({hours.low:,.1f} to {hours.high:,.1f}); "
        f"allow that, or take about {hours.expected / deadline:.1f} times as many devices",
        constraint="deadline",
        asked=deadline,
        nearest=hours.expected,
        unit="h",
    )


def too_dear(
    budget: NanoUSD, cheapest: Layout, nano_usd: float, deadline: float | None
) -> InfeasibleError:
    """No choice keeps the budget; nearest: the cost of the cheapest that keeps the deadline."""
    inside = "" if deadline is None else f" inside the deadline of {deadline:,.1f} h"
    return InfeasibleError(
        f"no choice of devices keeps the budget of {budget / 1e9:,.2f} USD: the cheapest{inside}, "
        f"{cheapest.choice}, costs {nano_usd / 1e9:,.2f} USD; allow that, or train on fewer tokens",
        constraint="budget",
        asked=budget / 1e9,
        nearest=nano_usd / 1e9,
        unit="USD",
    )


def _fewest_that_fit(wish: TrainingWish, choice: TrainingChoice, known: Efficiency) -> int | None:
    """Fewest devices of the choice's kind, whole nodes once there are several: doubled until they
    hold the run, then halved between the last that did not and the first that did."""

    def fits(devices: int) -> bool:
        try:
            layouts(wish, replace(choice, devices=devices), known)
        except TrainingDoesNotFitError:
            return False
        return True

    few, many = choice.devices, choice.devices * 2
    while not fits(many):
        few, many = many, many * 2
        if many > MOST_DEVICES:
            return None
    node = choice.kind.node_devices if many > choice.kind.node_devices else 1
    while many - few > node:
        middle = (few + many) // 2 // node * node
        if middle <= few:
            break
        few, many = (few, middle) if fits(middle) else (middle, many)
    return many


def too_fickle(failures: Sequence[tuple[TrainingChoice, FailuresError]]) -> InfeasibleError:
    """Every choice that holds the model loses its devices faster than it saves its work."""
    choice, error = failures[0]
    return InfeasibleError(
        f"{choice} cannot keep its work: {error}; take devices that vanish less often",
        constraint="failures",
        asked=choice.devices,
        nearest=None,
        unit="devices",
    )
