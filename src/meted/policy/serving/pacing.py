"""A tenant's budget as a price on its spending: who spends faster than its pace pays more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from meted.domain.allocation import TenantBudget
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros, NanoUSD, TenantName

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
LOWEST, HIGHEST = 0.1, 10.0
"""Bounds of a price: how far a tenant may run before its even pace, or fall behind it."""
EXPONENT = math.log(HIGHEST / LOWEST)
"""Of the largest move; what is spent at once in one piece must be waited off in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceMemory:
    """prices: dual price of each tenant's budget, 1 at its pace. spent: at the last decision."""

    prices: Mapping[TenantName, float] = field(default_factory=dict[TenantName, float])
    spent: Mapping[TenantName, NanoUSD] = field(default_factory=dict[TenantName, NanoUSD])
    decided: Micros = Micros(0)


def next_price(price: float, *, spent: float, target: float, step: float) -> float:
    """The price after an interval in which `spent` was spent where `target` was the pace.

    Multiplicative, so that it never is negative, and gradient in the logarithm of the price
    (mirror descent on the dual of the budget; Balseiro, Lu and Mirrokni 2020). step: of one whole
    target too much.
    """
    if target <= 0:
        return HIGHEST
    moved = price * math.exp(min(EXPONENT, step * (spent / target - 1)))
    return max(LOWEST, min(HIGHEST, moved))


def pace(budget: TenantBudget, now: Micros) -> float:
    """Nano-USD an hour that would use up the rest of a budget just at the end of its period."""
    left = max(0, budget.limit - budget.spent)
    return left * HOUR / max(1, budget.ends - now)


def allowed(budget: TenantBudget, now: Micros, price: float, reach: Micros) -> float:
    """Nano-USD an hour that a tenant may spend now: its pace over its price.

    Never more than what its rest lasts for over `reach`, so that no plan overruns the budget
    before the next decision. 0 outside the period.
    """
    if not budget.begins <= now < budget.ends:
        return 0.0
    left = max(0, budget.limit - budget.spent)
    return min(pace(budget, now) / price, left * HOUR / max(1, reach))
