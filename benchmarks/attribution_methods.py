"""Ways to say whose a replay's device time was; every one charges all of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from attribution_replay import MeteredStep, Run
from attribution_trace import TENANTS
from meted.control.demand_watch import DemandWatch
from meted.domain.units import DeviceNanos
from meted.ledger.attribution import split_step
from meted.predict.step_time import StepCost, marginal_micros
from meted.testing.builders import make_deployment

CANDIDATES = ("fixed part by work", "fixed part by tenant")
"""Other splits that the books could use."""

PREFILL_WEIGHT, CACHED_WEIGHT, DECODE_WEIGHT = 1.0, 0.5, 4.0
"""Fixed weights as price lists have them: an output token four input tokens, a cached one half."""

Charge = dict[str, float]
"""Device seconds by tenant."""


def tenant_of(request: str) -> str:
    """The tenant whose name a request's begins with."""
    return next(tenant for tenant in TENANTS if request.startswith(tenant))


def no_charge() -> Charge:
    """Nothing charged yet."""
    return dict.fromkeys(TENANTS, 0.0)


def books(runs: Sequence[Run]) -> list[dict[str, Charge]]:
    """What the house's own code charges for each run, in the order in which they were metered.

    As `Serving` does: every step is split by what the deployment's watch has learnt from the steps
    before it. A house that has just started charges its first steps by the prior. Beside it, from
    the same predictions: two other ways to share a step's fixed part, and `direct`, the charge
    without the fixed part of steps that more than one tenant had requests in.
    """
    watch = DemandWatch(make_deployment())
    charges: list[dict[str, Charge]] = []
    for run in runs:
        charge = {name: no_charge() for name in ("books", "direct", *CANDIDATES)}
        for step in run.steps:
            if step.shares:
                _book(step, watch.device_cost, charge)
                watch.stepped(step.shares, step.duration_us, DeviceNanos(step.cpu_ns))
        charges.append(charge)
    return charges


def _book(step: MeteredStep, cost: StepCost, charge: dict[str, Charge]) -> None:
    """Add one step to the charges of the books and of their candidates."""
    tenants = [tenant_of(share.request_id) for share in step.shares]
    seconds = step.cpu_ns / 1e9
    parts = split_step(DeviceNanos(step.cpu_ns), step.shares, cost)
    marginal = [max(1.0, marginal_micros(cost, share)) for share in step.shares]
    work = sum(marginal)
    fixed = seconds * cost.fixed / (cost.fixed + work)
    shared = fixed if len(set(tenants)) > 1 else 0.0
    for tenant, part, own in zip(tenants, parts, marginal, strict=True):
        charge["books"][tenant] += part / 1e9
        charge["direct"][tenant] += part / 1e9 - shared / len(tenants)
        charge["fixed part by work"][tenant] += seconds * own / work
        each = fixed / len(set(tenants)) / tenants.count(tenant)
        charge["fixed part by tenant"][tenant] += (seconds - fixed) * own / work + each


def equal_split(runs: Sequence[Run]) -> Charge:
    """Each step in equal parts over its requests."""
    charge = no_charge()
    for step in _steps(runs):
        for share in step.shares:
            charge[tenant_of(share.request_id)] += step.cpu_ns / len(step.shares) / 1e9
    return charge


def by_tokens(runs: Sequence[Run]) -> Charge:
    """All of the time by tokens, each kind with a fixed weight."""
    return _in_proportion(
        runs,
        (
            (
                share.request_id,
                PREFILL_WEIGHT * share.prefill_tokens
                + CACHED_WEIGHT * share.cached_tokens
                + DECODE_WEIGHT * share.decode_tokens,
            )
            for step in _steps(runs)
            for share in step.shares
        ),
    )


def by_request_seconds(runs: Sequence[Run]) -> Charge:
    """All of the time by how long requests were in flight, queued or running."""
    return _in_proportion(runs, (one for run in runs for one in run.in_flight_us.items()))


SIMPLE: Mapping[str, Callable[[Sequence[Run]], Charge]] = {
    "equal split": equal_split,
    "tokens x weights": by_tokens,
    "request-seconds": by_request_seconds,
}


def _steps(runs: Sequence[Run]) -> Iterable[MeteredStep]:
    return (step for run in runs for step in run.steps if step.shares)


def _in_proportion(runs: Sequence[Run], weights: Iterable[tuple[str, float]]) -> Charge:
    charge = no_charge()
    for request, weight in weights:
        charge[tenant_of(request)] += weight
    whole = sum(charge.values())
    used = sum(step.cpu_ns for step in _steps(runs)) / 1e9
    return {tenant: used * weight / whole for tenant, weight in charge.items()}
