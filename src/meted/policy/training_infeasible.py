"""Why no training run does what was wished, and the nearest that can be had."""

from collections.abc import Sequence
from dataclasses import replace

from meted.domain.units import NanoUSD
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.training_search import Layout, layouts
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.estimate import Estimate
from meted.predict.training.efficiency import Efficiency
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
    """Fewest devices of the choice's kind in steps of doubling."""
    devices = choice.devices * 2
    while devices <= MOST_DEVICES:
        try:
            layouts(wish, replace(choice, devices=devices), known)
        except TrainingDoesNotFitError:
            devices *= 2
            continue
        return devices
    return None
