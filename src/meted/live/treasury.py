"""A house's money: what devices cost, what tenants are charged, and the budgets that allow it."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from meted.domain.pool import Pool, Price
from meted.ledger.price_book import PriceBook
from meted.live.alerts import alert_sentence, post_alert
from meted.live.budget_desk import Alert, BudgetDesk
from meted.live.clock import Clock
from meted.live.funding import Funding
from meted.live.job_funds import JobFunds
from meted.live.metering import Metering
from meted.live.pricing import Pricing
from meted.live.store import Store

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], object]


def price_now(prices: PriceBook, pool: Pool, clock: Clock) -> Price:
    """What a device of the pool costs now, by the price book."""
    return prices.at(pool.devices[0].kind, clock.wall())


class Treasury:
    """Prices, rates and budgets as they are in the store, and who may spend what of them now."""

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        clock: Clock,
        metering: Metering,
        prices: PriceBook,
        spawn: Spawn,
        on_money: Callable[[], None],
        webhook: str | None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._clock = clock
        self._metering = metering
        self._prices = prices
        self._spawn = spawn
        self._webhook = webhook
        self._revision = -1
        self._pricing = Pricing(store.rate_book())
        self.desk = BudgetDesk(
            store=store,
            in_writer=metering.in_writer,
            spawn=spawn,
            wall=clock.wall,
            on_money=on_money,
            on_alert=self._alert,
        )
        metering.on_written = self.desk.written

    def price(self) -> Price:
        """What a device of the pool costs now, by the price book."""
        return price_now(self._prices, self._pool, self._clock)

    def funding(self) -> Funding:
        """The money of this session's requests."""
        return Funding(
            clock=self._clock,
            desk=self.desk,
            pricing=self._pricing,
            price=lambda: self._metering.meter.price,
        )

    def job_funds(self) -> JobFunds:
        """The money of this session's jobs."""
        return JobFunds(
            session=self._metering.session,
            wall=self._clock.wall,
            desk=self.desk,
            pricing=self._pricing,
            devices=len(self._pool.devices),
            price=lambda: self._metering.meter.price,
        )

    async def changed(self) -> bool:
        """Whether keys, budgets, prices or rates have been changed in the store, by whomever."""
        revision = await self._metering.in_writer(self._store.version)
        before, self._revision = self._revision, revision
        return revision != before

    async def reread(self) -> None:
        """Take budgets, prices and rates from the store as they are now."""
        budgets, rates, prices = await self._metering.in_writer(
            lambda: (self._store.budgets(), self._store.rate_book(), self._store.price_book())
        )
        self._prices = prices
        self._pricing.load(rates)
        self.desk.load(budgets)

    def _alert(self, alert: Alert) -> None:
        log.warning("%s", alert_sentence(alert))
        if self._webhook is not None:
            self._spawn(post_alert(self._webhook, alert))
