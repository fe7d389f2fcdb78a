"""Hard budgets of tenants: nothing starts or goes on that is not set aside for.

Requests: `request_money.py`. Jobs: at each decision a job's worst case up to the next one is
reserved, its devices for an interval and for the time in which it leaves them. What it really cost
is charged when that is over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from meted.control.events import MoneyBack, MoneyGone
from meted.domain.allocation import JobDemand, JobOption, Plan, TenantBudget
from meted.domain.pool import Pool
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName, TransferId
from meted.ledger.transfers import Short
from meted.sim.recorder import MICROS_PER_HOUR, Recorder
from meted.sim.request_money import Accounts, RequestMoney, money_of, window_of
from meted.sim.result import BudgetResult
from meted.sim.scenario import SimDeployment, SimJob


@dataclass(slots=True)
class _Fund:
    """A job's reservation, and its devices with what each had cost when last settled."""

    tenant: TenantName
    leave: int
    number: int = 0
    transfer: TransferId | None = None
    reserved: int = 0
    budget: TenantBudget | None = None
    devices: tuple[int, ...] = ()
    settled: dict[int, int] = field(default_factory=dict[int, int])


class Purse:
    """Law: what a tenant has spent and what is reserved never exceed its limit together.

    What a job costs beyond its reservation, after a price has risen in between, is lost to the
    house. A cost counts in the budget that held when it was reserved.

    requests: the money of each deployment's requests that needs some.
    """

    def __init__(
        self,
        budgets: Sequence[TenantBudget],
        jobs: Iterable[SimJob],
        *,
        recorder: Recorder,
        interval: Micros,
        deployments: Iterable[SimDeployment] = (),
    ) -> None:
        self._recorder, self._interval = recorder, interval
        self._kind = recorder.kinds
        self._accounts = Accounts(budgets)
        self._transfers = self._accounts.transfers
        self.requests: dict[DeploymentName, RequestMoney] = {
            one.deployment.name: money
            for one in deployments
            if (money := money_of(one, self._accounts)) is not None
        }
        self._funds = {
            job.name: _Fund(tenant=job.tenant, leave=job.leave)
            for job in jobs
            if self._accounts.covers(job.tenant)
        }
        self._held: dict[JobName, JobDemand] = {}
        self.lost = 0
        """Nano-USD that jobs cost beyond what was reserved."""

    @property
    def used(self) -> bool:
        """Whether some job is under a budget."""
        return bool(self._funds)

    def budgets(self, now: int) -> tuple[TenantBudget, ...]:
        """The budgets that hold now or later, and of who has none of them the last; spent: with
        what is reserved."""
        found: list[TenantBudget] = []
        for one in self._accounts.budgets:
            if one.ends > now or one is self._accounts.last(one.tenant):
                found.append(replace(one, spent=NanoUSD(one.limit - self._available(one))))
        return tuple(found)

    def results(self) -> list[BudgetResult]:
        """How every period of every budget stands."""
        found: list[BudgetResult] = []
        for one in self._accounts.budgets:
            balance = self._accounts.balance(one)
            found.append(
                BudgetResult(
                    tenant=one.tenant,
                    begins=one.begins,
                    ends=one.ends,
                    limit=one.limit,
                    spent=balance.posted,
                    reserved=balance.pending,
                    refused=self._accounts.refused.get(window_of(one), 0),
                )
            )
        return found

    def began(self, name: JobName, devices: tuple[int, ...], now: int) -> None:
        """A job has its devices from now on."""
        if (fund := self._funds.get(name)) is not None:
            fund.devices = devices
            fund.settled = {device: self._recorder.spent(device) for device in devices}

    def left(self, name: JobName, now: int) -> None:
        """A job is off its devices."""
        if (fund := self._funds.get(name)) is not None and fund.devices:
            before = fund.reserved
            paid = self._settle(fund)
            fund.devices, fund.settled = (), {}
            self._reserve(name, fund, before - paid, fund.budget)

    def forget(self, name: JobName) -> None:
        """A job has ended: nothing is reserved for it any more."""
        if (fund := self._funds.pop(name, None)) is not None:
            self._settle(fund)
        self._held.pop(name, None)

    def settle(self, now: int, pool: Pool) -> None:
        """Charge what all jobs have cost up to now; what it costs to leave stays set aside."""
        for name, fund in self._funds.items():
            self._recorder.cut(fund.devices, now)
            before = fund.reserved
            left = before - self._settle(fund)
            if fund.devices:
                leaving = self._cost(fund.devices, fund.leave, pool)
                if not self._reserve(name, fund, leaving, self._current(fund.tenant, now)):
                    self._reserve(name, fund, left, fund.budget)

    def back(self, now: int, pool: Pool) -> list[MoneyBack]:
        """Jobs that were held, and for one of whose ways to run there is money now."""
        found: list[MoneyBack] = []
        for name, demand in list(self._held.items()):
            budget = self._current(self._funds[name].tenant, now)
            if budget is not None and any(
                self._worst(name, one, pool) <= self._available(budget) for one in demand.options
            ):
                del self._held[name]
                found.append(MoneyBack(now=Micros(now), name=name))
        return found

    def limit(
        self, now: int, demands: Sequence[JobDemand], pool: Pool
    ) -> tuple[tuple[JobDemand, ...], list[MoneyGone]]:
        """Set aside for each job, in their order, the dearest way to run that its tenant can pay;
        the demands with only such ways, and the jobs without any."""
        kept: list[JobDemand] = []
        gone: list[MoneyGone] = []
        for demand in demands:
            fund = self._funds.get(demand.job)
            if fund is None or not demand.options:
                kept.append(demand)
                continue
            budget = self._current(fund.tenant, now)
            costs = {one: self._worst(demand.job, one, pool) for one in demand.options}
            for cost in sorted(set(costs.values()), reverse=True):
                over = fund.transfer is not None and fund.budget != budget
                if not over and self._reserve(demand.job, fund, cost, budget):
                    ways = tuple(one for one in demand.options if costs[one] <= cost)
                    kept.append(replace(demand, options=ways))
                    break
            else:
                self._held[demand.job] = demand
                reason = self._why(fund.tenant, min(costs.values()), now)
                gone.append(MoneyGone(now=Micros(now), name=demand.job, reason=reason))
        return tuple(kept), gone

    def planned(self, now: int, plan: Plan, pool: Pool) -> list[MoneyGone]:
        """Keep what the plan needs; give the rest back. The jobs for which it is too little."""
        gone: list[MoneyGone] = []
        allotted = {one.job: one.devices for one in plan.jobs}
        for name, fund in self._funds.items():
            devices = allotted.get(name, ())
            if not devices and not fund.devices:
                self._settle(fund)
                continue
            if not devices:
                leaving = min(fund.reserved, self._cost(fund.devices, fund.leave, pool))
                self._reserve(name, fund, leaving, fund.budget)
                continue
            wanted = self._cost(devices, self._interval, pool) + self._leaving(
                fund, self._cost(devices, fund.leave, pool), pool
            )
            budget = self._current(fund.tenant, now)
            if not self._reserve(name, fund, wanted, budget) and name not in self._held:
                reason = self._why(fund.tenant, wanted, now)
                gone.append(MoneyGone(now=Micros(now), name=name, reason=reason))
        return gone

    def _worst(self, name: JobName, option: JobOption, pool: Pool) -> int:
        """The most that a job can cost up to the next decision and until it has left."""
        fund = self._funds[name]

        def cost(micros: int) -> int:
            rate = pool.price_of(option.kind).nano_usd_per_device_hour
            return option.devices * (-(-rate * micros // MICROS_PER_HOUR) + 1)

        return cost(self._interval) + self._leaving(fund, cost(fund.leave), pool)

    def _leaving(self, fund: _Fund, new: int, pool: Pool) -> int:
        """The cost of leaving the devices it has, or those it is to get."""
        return max(new, self._cost(fund.devices, fund.leave, pool))

    def _cost(self, devices: Iterable[int], micros: int, pool: Pool) -> int:
        """Rounded up for each device, and one more for where its rounding begins."""
        return sum(
            -(-pool.price_of(self._kind[one]).nano_usd_per_device_hour * micros // MICROS_PER_HOUR)
            + 1
            for one in devices
        )

    def _settle(self, fund: _Fund) -> int:
        """Charge what the devices have cost since the last time, and end the reservation; what was
        charged."""
        cost = 0
        for device in fund.devices:
            spent = self._recorder.spent(device)
            cost += spent - fund.settled[device]
            fund.settled[device] = spent
        paid = min(cost, fund.reserved)
        self.lost += cost - paid
        if fund.transfer is not None:
            self._transfers.post(fund.transfer, NanoUSD(paid))
            fund.transfer, fund.reserved = None, 0
        return paid

    def _reserve(
        self, name: JobName, fund: _Fund, amount: int, budget: TenantBudget | None
    ) -> bool:
        """Make what is reserved for a job exactly this much; False, and nothing changed, if too
        little is left. budget: of which it is taken if nothing is reserved yet."""
        if fund.transfer is not None:
            made = self._transfers.resize(fund.transfer, NanoUSD(amount))
        elif budget is None:
            return False
        else:
            fund.number += 1
            identity = TransferId(f"{name}/{fund.number}")
            made = self._transfers.reserve(identity, (window_of(budget),), NanoUSD(amount))
        if isinstance(made, Short):
            return False
        if fund.transfer is None:
            fund.transfer, fund.budget = made.id, budget
        fund.reserved = amount
        return True

    def _current(self, tenant: TenantName, now: int) -> TenantBudget | None:
        return self._accounts.current(tenant, now)

    def _available(self, budget: TenantBudget) -> int:
        return self._accounts.balance(budget).available or 0

    def _why(self, tenant: TenantName, wanted: int, now: int) -> str:
        budget = self._current(tenant, now)
        if budget is None:
            return f"tenant {tenant!r} has no budget at {now} us; give it one for then"
        left = self._available(budget)
        return (
            f"tenant {tenant!r} needs ${wanted / 1e9:.4f} up to the next decision, "
            f"${left / 1e9:.4f} of its ${budget.limit / 1e9:.2f} are left"
        )
