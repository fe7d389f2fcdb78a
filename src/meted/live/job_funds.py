"""Money for training: set aside ahead of each part of a job, charged once the part is durable.

A part is what a job does between two checkpoints. Its trainer does not ask before each step, so
that some seconds ahead are always set aside; what a part used beyond that is the house's loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

from meted.domain.budget import Window
from meted.domain.job import JobSpec
from meted.domain.line import Account
from meted.domain.pool import Price
from meted.domain.tenancy import Payer
from meted.domain.units import (
    NANOS_PER_SECOND,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    TransferId,
)
from meted.ledger.money import amount
from meted.ledger.rates import Rates, price_of_training
from meted.live.budget_desk import BudgetDesk, NoMoney
from meted.live.pricing import Pricing
from meted.live.refusals import job_without_money
from meted.live.store import ChargeRow

AHEAD_S = 5
"""Seconds of all devices that a job asks for beyond what it has used."""
LEAST_S = 3
"""Seconds without which it must stop: until the next look, and a checkpoint."""
GRACE_US = Micros(1_000_000)
"""How long a new part may run before its first money comes, e.g. just after midnight."""


@dataclass(slots=True)
class _Part:
    """The part under way. Amounts before it were charged already, in this session."""

    number: int
    begun: Micros
    windows: tuple[Window, ...]
    rates: Rates
    transfer: TransferId | None = None
    reserved: NanoUSD = NanoUSD(0)


@dataclass(slots=True)
class _Charged:
    """What this session has charged of a job."""

    nanos: int = 0
    cost: int = 0
    price: int = 0
    parts: int = 0


class JobFunds:
    """The money of all jobs of one session. Cumulative amounts are since the session began."""

    def __init__(
        self,
        *,
        session: str,
        wall: Callable[[], Micros],
        desk: BudgetDesk,
        pricing: Pricing,
        devices: int,
        price: Callable[[], Price],
    ) -> None:
        self._session = session
        self._wall = wall
        self._desk = desk
        self._pricing = pricing
        self._devices = devices
        self._price = price
        self._parts: dict[JobName, _Part] = {}
        self._charged: dict[JobName, _Charged] = {}
        self._without_money: set[JobName] = set()

    def begin(self, spec: JobSpec) -> str | None:
        """Set the first seconds of a job's next part aside. Returns why not, if nobody pays."""
        part = self._part(spec)
        refusal = self._cover(part, spec, NanoUSD(0))
        if refusal is not None:
            self._parts.pop(spec.name)
        return refusal

    def extend(
        self, spec: JobSpec, used: DeviceNanos, cost: NanoUSD, *, running: int
    ) -> str | None:
        """A job has used so much in all, `running` of it not entered yet (and not in `cost`): see
        that the part is paid for, and what comes next. Returns why not, if nobody pays."""
        part = self._part(spec)
        cost = NanoUSD(cost + amount(DeviceNanos(running), self._price()))
        refusal = self._cover(part, spec, self._price_of(spec, part, used, cost))
        if refusal is not None and part.transfer is None:
            if self._wall() - part.begun < GRACE_US:
                return None
            self._parts.pop(spec.name)
        return refusal

    def charge(
        self, spec: JobSpec, account: Account, used: DeviceNanos, cost: NanoUSD
    ) -> ChargeRow | None:
        """A part is durable: charge what was used since the last charge, never more than was set
        aside. None if nothing was."""
        part = self._parts.pop(spec.name, None)
        if part is None:
            return None
        charged = self._charged.setdefault(spec.name, _Charged())
        price = self._price_of(spec, part, used, cost)
        nanos, fresh_cost = used - charged.nanos, cost - charged.cost
        charged.nanos, charged.cost = used, cost
        if part.windows:
            price = min(price, part.reserved)
        if part.transfer is not None:
            self._desk.post(part.transfer, price)
        charged.price += price
        if not nanos and not price:
            return None
        return ChargeRow(
            id=TransferId(f"{spec.name}/{self._session}/{part.number}"),
            account=account,
            at=part.begun,
            device_nanos=nanos,
            cost=NanoUSD(fresh_cost),
            price=price,
            windows=part.windows if part.transfer is not None else (),
        )

    def charged(self, name: JobName) -> NanoUSD:
        """What this session has charged of a job so far."""
        charged = self._charged.get(name)
        return NanoUSD(charged.price if charged is not None else 0)

    def void(self, name: JobName) -> None:
        """The part under way was lost: nobody pays for it."""
        part = self._parts.pop(name, None)
        if part is not None and part.transfer is not None:
            self._desk.void(part.transfer)

    def _part(self, spec: JobSpec) -> _Part:
        part = self._parts.get(spec.name)
        if part is None:
            charged = self._charged.setdefault(spec.name, _Charged())
            charged.parts += 1
            now = self._wall()
            payer = Payer(tenant=spec.tenant, project=spec.project, key=spec.key)
            part = self._parts[spec.name] = _Part(
                number=charged.parts,
                begun=now,
                windows=self._desk.windows(payer, None, now),
                rates=self._pricing.rates(spec.tenant, None, now),
            )
        return part

    def _cover(self, part: _Part, spec: JobSpec, price: NanoUSD) -> str | None:
        """Have `price` and some seconds ahead set aside, or at least those it takes to stop."""
        if not part.windows:
            return None
        lack: NoMoney | None = None
        for seconds in (AHEAD_S, LEAST_S):
            wanted = NanoUSD(price + self._ahead(part, seconds))
            if not _covers(part, wanted):
                lack = self._set_aside(part, spec, wanted)
            if _covers(part, wanted):
                self._without_money.discard(spec.name)
                return None
        return self._refused(spec, lack)

    def _set_aside(self, part: _Part, spec: JobSpec, wanted: NanoUSD) -> NoMoney | None:
        if part.transfer is not None:
            made = self._desk.resize(part.transfer, wanted)
        else:
            name = TransferId(f"{spec.name}/{self._session}/{part.number}")
            made = self._desk.reserve(name, part.windows, wanted)
        if made is None or isinstance(made, NoMoney):
            return made
        part.transfer, part.reserved, part.windows = made.id, made.amount, made.windows
        if not part.windows:
            # Its budgets have been removed since the part began.
            self._desk.void(made.id)
            part.transfer = None
        return None

    def _refused(self, spec: JobSpec, lack: NoMoney | None) -> str:
        """Counted once, however often the job asks until there is money again."""
        if lack is not None and spec.name not in self._without_money:
            self._without_money.add(spec.name)
            self._desk.refuse(lack)
        return job_without_money(lack)

    def _ahead(self, part: _Part, seconds: int) -> NanoUSD:
        nanos = DeviceNanos(seconds * NANOS_PER_SECOND * self._devices)
        return price_of_training(part.rates, nanos, amount(nanos, self._price()))

    def _price_of(self, spec: JobSpec, part: _Part, used: DeviceNanos, cost: NanoUSD) -> NanoUSD:
        """Of what was used since the last charge: the difference of two cumulative prices."""
        charged = self._charged[spec.name]
        before = price_of_training(part.rates, DeviceNanos(charged.nanos), NanoUSD(charged.cost))
        return NanoUSD(max(0, price_of_training(part.rates, used, cost) - before))


def _covers(part: _Part, wanted: NanoUSD) -> bool:
    return not part.windows or (part.transfer is not None and wanted <= part.reserved)
