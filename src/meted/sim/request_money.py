"""Money of simulated requests: the worst case is set aside before dispatch, the price charged once.

As in the house: `live/funding.py` with the deployment's rates, in the ledger's own transfers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meted.domain.allocation import TenantBudget
from meted.domain.budget import Window
from meted.domain.units import BudgetName, Micros, NanoUSD, TenantName, TransferId
from meted.ledger.rates import RateCard, price_of_request, worst_price
from meted.ledger.transfers import Balance, Short, Transfers
from meted.predict.batching import Served
from meted.sim.scenario import SimDeployment, SimRequest

NO_COST = NanoUSD(0)
"""A rate card ignores what a request cost us."""


class Accounts:
    """The periods of all tenants' budgets in one ledger of transfers, for jobs and requests alike.

    refused: requests that a period had no money for.
    """

    def __init__(self, budgets: Sequence[TenantBudget]) -> None:
        self.budgets = tuple(budgets)
        self.transfers = Transfers()
        self.refused: dict[Window, int] = {}
        self._by_tenant: dict[TenantName, list[TenantBudget]] = {}
        for one in budgets:
            self.transfers.grant(window_of(one), one.limit, posted=one.spent)
            self._by_tenant.setdefault(one.tenant, []).append(one)

    def covers(self, tenant: TenantName) -> bool:
        """Whether a tenant has a budget, now or ever."""
        return tenant in self._by_tenant

    def current(self, tenant: TenantName, now: int) -> TenantBudget | None:
        """The budget that holds for a tenant now."""
        for one in self._by_tenant.get(tenant, ()):
            if one.begins <= now < one.ends:
                return one
        return None

    def last(self, tenant: TenantName) -> TenantBudget:
        """The tenant's budget that ends last. Raises KeyError if it has none."""
        return max(self._by_tenant[tenant], key=lambda one: one.ends)

    def balance(self, budget: TenantBudget) -> Balance:
        """How a budget's period stands."""
        return self.transfers.balance(window_of(budget))


@dataclass(slots=True, kw_only=True)
class RequestMoney:
    """The money of one deployment's requests; those of tenants without a budget need none.

    Law: what a tenant has spent and what is reserved never exceed its limit together. A price
    counts in the period in which the request was dispatched.
    """

    name: str
    rates: RateCard
    host: TenantName
    accounts: Accounts
    _number: int = 0
    _held: dict[int, TransferId] = field(default_factory=dict[int, TransferId])

    def hopeless(self, request: SimRequest, now: int) -> bool:
        """So much is spent that the request's worst case cannot fit in this period any more."""
        tenant = request.tenant or self.host
        if not self.accounts.covers(tenant):
            return False
        budget = self.accounts.current(tenant, now)
        if budget is None:
            return True
        if self.accounts.balance(budget).posted + self._worst(request) <= budget.limit:
            return False
        self._refuse(budget)
        return True

    def reserve(self, served: Served, request: SimRequest, now: int) -> bool:
        """Set the worst case aside, once for both attempts; False: it does not fit."""
        tenant, key = request.tenant or self.host, id(served)
        if not self.accounts.covers(tenant) or key in self._held:
            return True
        budget = self.accounts.current(tenant, now)
        if budget is None:
            return False
        self._number += 1
        transfer = TransferId(f"{self.name}#{self._number}")
        made = self.accounts.transfers.reserve(transfer, (window_of(budget),), self._worst(request))
        if isinstance(made, Short):
            self._refuse(budget)
            return False
        self._held[key] = transfer
        return True

    def settle(self, served: Served) -> None:
        """A request is answered: charge its tokens, and give the rest back."""
        if (transfer := self._held.pop(id(served), None)) is not None:
            self.accounts.transfers.post(transfer, price_of(served, self.rates))

    def release(self, served: Served) -> None:
        """A request came to nothing: it costs its tenant nothing."""
        if (transfer := self._held.pop(id(served), None)) is not None:
            self.accounts.transfers.void(transfer)

    def _worst(self, request: SimRequest) -> NanoUSD:
        return worst_price(
            self.rates,
            prompt_tokens_most=request.prompt_tokens,
            output_tokens_most=max(request.output_tokens, request.max_tokens),
            predicted_cost_most=NO_COST,
        )

    def _refuse(self, budget: TenantBudget) -> None:
        window = window_of(budget)
        self.accounts.refused[window] = self.accounts.refused.get(window, 0) + 1


def price_of(served: Served, rates: RateCard) -> NanoUSD:
    """What an answered request is charged."""
    arrival = served.arrival
    # A traced prompt's last block may be cached and be longer than what is left of the prompt.
    cached = min(arrival.cached_tokens, arrival.prompt_tokens)
    return price_of_request(
        rates,
        input_tokens=arrival.prompt_tokens - cached,
        cached_tokens=cached,
        output_tokens=arrival.output_tokens,
        cost=NO_COST,
    )


def money_of(sim: SimDeployment, accounts: Accounts) -> RequestMoney | None:
    """The money of a deployment's requests, None where no tenant of them has a budget.

    Raises ValueError if one has, and the deployment has no rates.
    """
    if not accounts.budgets:
        return None
    tenants = {request.tenant or sim.tenant for request in sim.requests}
    held = sorted(one for one in tenants if accounts.covers(one))
    if not held:
        return None
    if sim.rates is None:
        raise ValueError(
            f"deployment {sim.deployment.name!r} has requests of {held[0]!r}, who has a budget, "
            "but no rates to charge them by; give it a RateCard as its rates"
        )
    return RequestMoney(
        name=sim.deployment.name, rates=sim.rates, host=sim.tenant, accounts=accounts
    )


def window_of(budget: TenantBudget) -> Window:
    """The period in the ledger's words."""
    return Window(budget=BudgetName(budget.tenant), starts=budget.begins, ends=Micros(budget.ends))
