"""Whose device time was a step: each request pays its predicted marginal work."""

from collections.abc import Sequence

from meted.domain.step import TokenWork
from meted.domain.units import DeviceNanos
from meted.ledger.split import largest_remainder
from meted.predict.step_time import StepCost, marginal_micros


def split_step(used: DeviceNanos, shares: Sequence[TokenWork], cost: StepCost) -> list[DeviceNanos]:
    """Device time of one engine step, split over the requests in it; sums to `used` exactly.

    The fixed part of a step is shared equally, because a step costs it once for any request; the
    rest in proportion to each request's predicted prefill, decode and context work.
    """
    fixed = cost.fixed / len(shares)
    weights = [fixed + marginal_micros(cost, share) for share in shares]
    return [DeviceNanos(part) for part in largest_remainder(used, weights)]
