"""Budget-paced: each tenant's replicas and jobs within what its budget allows now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meted.domain.allocation import (
    JobDemand,
    JobOption,
    Plan,
    Snapshot,
    TenantBudget,
    Waiting,
)
from meted.domain.units import MICROS_PER_SECOND, JobName, Micros, NanoUSD, TenantName
from meted.policy.serving.counting import Scale
from meted.policy.serving.demand_based import count_wishes
from meted.policy.serving.memory import ServingMemory
from meted.policy.serving.pacing import PaceMemory, allowed, next_price, pace
from meted.policy.serving.performance_based import dollars_of
from meted.policy.serving.warm import NANOS_PER_DOLLAR, Warm
from meted.policy.sharing.line import Line, Order
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish

GROW = 4.0
"""A running job gets a dearer way only if the budget pays that many times over, so that its width
does not follow each swing of the price: each change is a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedMemory:
    serving: ServingMemory
    paces: PaceMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPaced:
    """Replicas as by `DemandScaling`, but no more than the tenant's budget allows now, and of its
    jobs, in order, as many as the rest of it pays, on no more devices. Tenants without a budget are
    not limited; one with budgets of which none holds now gets nothing.

    step: how fast the price of a budget follows spending. reach_s: what a plan spends in so long
    must be left, so that none overruns; make it longer than the time between two decisions and
    the longest drain. A budget that is used up takes the least replicas of a deployment too.
    """

    step: float = 0.5
    reach_s: float = 600.0
    busy: float = 0.8

    def __post_init__(self) -> None:
        if self.step <= 0 or self.reach_s <= 0:
            raise ValueError(
                f"policy.step is {self.step} and reach_s {self.reach_s}; expected more than 0"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        before = None if snapshot.previous is None else snapshot.previous.memory
        known = before if isinstance(before, PacedMemory) else None
        budgets = _in_force(snapshot)
        paces = self._paces(budgets, snapshot.now, known.paces if known else None)
        left = {
            one.tenant: allowed(
                one,
                snapshot.now,
                paces.prices[one.tenant],
                Micros(round(self.reach_s * MICROS_PER_SECOND)),
            )
            / NANOS_PER_DOLLAR
            for one in budgets
        }
        told = dict(left)
        seen = _seeing(snapshot, known.serving if known else None)
        counted, serving = count_wishes(seen, Scale(busy=self.busy), Warm())
        wishes = [_afford(snapshot, one, left) for one in counted]
        paid, refused = _jobs(snapshot, left, told)
        plan = share(
            replace(
                snapshot,
                jobs=tuple(paid[job.job] for job in snapshot.jobs if job.job in paid),
            ),
            wishes,
            Line(order=Order.ARRIVAL, overtake=True),
            memory=PacedMemory(serving=serving, paces=paces),
        )
        return replace(plan, waiting=(*plan.waiting, *refused))

    def _paces(
        self, budgets: Sequence[TenantBudget], now: Micros, before: PaceMemory | None
    ) -> PaceMemory:
        prices: dict[TenantName, float] = {}
        for one in budgets:
            price = 1.0
            # A period begins anew: what the last one was spent at says nothing of this one's pace.
            if before is not None and one.tenant in before.spent and one.begins <= before.decided:
                price = before.prices[one.tenant]
                elapsed = now - before.decided
                if elapsed > 0:
                    spent = max(0, one.spent - before.spent[one.tenant])
                    target = _target(one, now) * elapsed
                    price = next_price(price, spent=spent, target=target, step=self.step)
            prices[one.tenant] = price
        spent_now: dict[TenantName, NanoUSD] = {one.tenant: one.spent for one in budgets}
        return PaceMemory(prices=prices, spent=spent_now, decided=now)


def _in_force(snapshot: Snapshot) -> tuple[TenantBudget, ...]:
    """Each tenant's budget that holds now, or one that does not, which pays nothing."""
    found: dict[TenantName, TenantBudget] = {}
    for one in snapshot.budgets:
        known = found.get(one.tenant)
        if known is None or not known.begins <= snapshot.now < known.ends:
            found[one.tenant] = one
    return tuple(found.values())


def _target(budget: TenantBudget, now: Micros) -> float:
    """Nano-USD a microsecond at an even pace from here to the period's end."""
    return pace(budget, now) / (3600 * MICROS_PER_SECOND)


def _seeing(snapshot: Snapshot, memory: ServingMemory | None) -> Snapshot:
    """The snapshot with the memory that counting replicas looks for."""
    if snapshot.previous is None:
        return snapshot
    return replace(snapshot, previous=replace(snapshot.previous, memory=memory))


def _afford(snapshot: Snapshot, wish: Wish, left: dict[TenantName, float]) -> Wish:
    """No more replicas than the tenant may pay; what they cost is taken from what is left."""
    tenant = wish.demand.tenant
    if tenant not in left:
        return wish
    option, count = wish.replicas[0]
    # One on a dearer kind that it may fall back to is paid as such.
    dollars = max(dollars_of(snapshot.pool, one) for one in (option, *wish.others))
    few = min(count, int(left[tenant] / dollars + 1e-9)) if dollars > 0 else count
    reason = wish.reason
    if few < count:
        reason += f"; the budget of {tenant} pays {few}: ${left[tenant]:.2f} an hour now"
    left[tenant] -= few * dollars
    return replace(wish, replicas=((option, few),), reason=reason)


def _jobs(
    snapshot: Snapshot, left: dict[TenantName, float], told: Mapping[TenantName, float]
) -> tuple[dict[JobName, JobDemand], list[Waiting]]:
    """Jobs that their tenants may pay, with the ways to run that they may, those that run first."""
    paid: dict[JobName, JobDemand] = {}
    refused: list[Waiting] = []
    for job in sorted(snapshot.jobs, key=lambda one: (not one.running, one.order)):
        if job.tenant not in left:
            paid[job.job] = job
            continue
        prices = {
            one: one.devices
            * snapshot.pool.price_of(one.kind).nano_usd_per_device_hour
            / NANOS_PER_DOLLAR
            for one in job.options
        }
        ways = _ways(snapshot, job, prices, left[job.tenant] + 1e-9)
        if ways or not prices:
            left[job.tenant] -= max((prices[one] for one in ways), default=0.0)
            paid[job.job] = replace(job, options=ways)
        else:
            refused.append(
                Waiting(
                    job=job.job,
                    reason=(
                        f"{job.job}: waits for ${min(prices.values()):.2f} an hour; the budget of "
                        f"{job.tenant} pays ${told[job.tenant]:.2f} an hour now, "
                        f"${left[job.tenant]:.2f} are left"
                    ),
                )
            )
    return paid, refused


def _ways(
    snapshot: Snapshot, job: JobDemand, prices: Mapping[JobOption, float], left: float
) -> tuple[JobOption, ...]:
    """The ways to run a job that `left` dollars an hour pay."""
    ways = tuple(one for one in job.options if prices[one] <= left)
    before = snapshot.previous.job(job.job) if snapshot.previous and job.running else None
    if before is None or not before.devices:
        return ways
    kinds = {device.index: device.kind for device in snapshot.pool.devices}
    way = (kinds[before.devices[0]], len(before.devices))
    has = next((prices[one] for one in ways if (one.kind, one.devices) == way), None)
    if has is None:
        return ways
    return tuple(one for one in ways if prices[one] <= has or prices[one] * GROW <= left)
