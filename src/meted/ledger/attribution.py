"""Whose device time was a step: each request pays its predicted marginal work."""

from collections.abc import Sequence

from meted.domain.step import TokenWork
from meted.domain.units import DeviceNanos
from meted.ledger.split import largest_remainder
from meted.predict.step_time import StepCost, marginal_micros


def split_step(used: DeviceNanos, shares: Sequence[TokenWork], cost: StepCost) -> list[DeviceNanos]:
    """Device time of one engine step, split over the requests in it; sums to `used` exactly.

    The fixed part of a step is shared equally, because a step costs it once for any request; the
    rest in proportion to each request's predicted prefill, decode, context and attention work.
    This is the Shapley value of a cost that is a fixed part plus a sum: what each request adds to
    the step, averaged over the orders in which they could have joined it (Shapley 1953; Littlechild
    and Owen 1973 for the fixed part). How near it comes to what truly vanishes without a tenant:
    docs/benchmarks.md. Raises ValueError for no shares or a negative time.
    """
    if len(shares) == 1 and used >= 0:
        return [used]
    if not shares:
        raise ValueError(f"cannot split {used} ns over no shares; charge it to overhead")
    fixed = cost.fixed / len(shares)
    weights = [fixed + marginal_micros(cost, share) for share in shares]
    return [DeviceNanos(part) for part in largest_remainder(used, weights)]
