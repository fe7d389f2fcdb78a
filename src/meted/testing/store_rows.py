"""Rows to write into a store: seconds of one device, requests that ended in them, loss points."""

from dataclasses import replace
from typing import Protocol

from meted.domain.budget import Budget, Period, Window
from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.request import Outcome
from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    RequestId,
    TenantName,
    TransferId,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED
from meted.live.store import ChargeRow, LossRow, RequestRow, Store

SESSION = "s1"
JOB = JobName("night-shift")
TENANT = TenantName("acme")
KEY = KeyId("key-1")
WORDS = DeploymentName("words")
TRAINING = Account(kind=Kind.TRAINING, tenant=TENANT, job=JOB)
UNSAVED = replace(TRAINING, note=UNCHECKPOINTED)
STEP = Account(kind=Kind.REQUEST, deployment=WORDS, note=IN_PROGRESS)
MICROS = 1_000_000
START = 1_700_000_000_000_000
PRICE = NanoUSD(20_000_000)


class MakeStore(Protocol):
    """Opens the same database each time, for this house; the first call finds it empty.

    Its clock is the machine's, whose time is later than all times in these checks.
    """

    def __call__(self, house: str = "here") -> Store: ...


def request_account(number: int) -> Account:
    """The account of the numbered request."""
    return Account(
        kind=Kind.REQUEST,
        tenant=TENANT,
        project=DEFAULT_PROJECT,
        key=KEY,
        deployment=WORDS,
        model="words-1m",
        request=RequestId(f"request-{number}"),
    )


def interval(number: int, used: dict[Account, int], *, session: str = SESSION) -> Interval:
    """The numbered second of one device: these accounts' nanoseconds, the rest idle."""
    capacity = MICROS * 1000
    amount = cost_of((number + 1) * capacity) - cost_of(number * capacity)
    lines = [
        Line(account=account, device_nanos=DeviceNanos(nanos), amount=cost_of(nanos))
        for account, nanos in used.items()
    ]
    idle = Line(
        account=Account(kind=Kind.IDLE),
        device_nanos=DeviceNanos(capacity - sum(used.values())),
        amount=NanoUSD(amount - sum(line.amount for line in lines)),
    )
    return Interval(
        session=session,
        number=number,
        priced_from=Micros(START),
        started=Micros(START + number * MICROS),
        ended=Micros(START + (number + 1) * MICROS),
        devices=1,
        nano_usd_per_device_hour=PRICE,
        capacity_nanos=DeviceNanos(capacity),
        amount=NanoUSD(amount),
        lines=(*lines, idle),
    )


def request_row(
    number: int,
    nanos: int,
    *,
    outcome: Outcome = Outcome.DONE,
    price: int | None = None,
    windows: tuple[Window, ...] = (),
) -> RequestRow:
    """The end of the numbered request within the numbered second; its price is its cost."""
    return RequestRow(
        account=request_account(number),
        arrived=Micros(START + number * MICROS),
        ended=Micros(START + number * MICROS + 1000),
        outcome=outcome,
        prompt_tokens=3,
        cached_tokens=1,
        completion_tokens=4,
        ttft_us=500,
        device_nanos=nanos,
        cost=cost_of(nanos),
        price=cost_of(nanos) if price is None else NanoUSD(price),
        windows=windows,
    )


def charge_row(
    number: int, price: int, *, at: int = START, windows: tuple[Window, ...] = ()
) -> ChargeRow:
    """The charge for the numbered part of the job."""
    return ChargeRow(
        id=TransferId(f"{JOB}/{number}"),
        account=TRAINING,
        at=Micros(at),
        device_nanos=number,
        cost=NanoUSD(0),
        price=NanoUSD(price),
        windows=windows,
    )


def loss_row(step: int, when: str = "train") -> LossRow:
    """One point of a loss curve."""
    return LossRow(
        job=JOB,
        step=step,
        tokens=step * 10,
        loss=1 / (1 + step),
        held_out=None,
        when=when,
        device_nanos=step,
        cost=NanoUSD(step),
    )


def budget(
    name: str,
    limit: int,
    *,
    period: Period = Period.TOTAL,
    hard: bool = True,
    deployment: DeploymentName | None = None,
) -> Budget:
    """A budget of the tenant of all these rows."""
    return Budget(
        name=BudgetName(name),
        tenant=TENANT,
        deployment=deployment,
        period=period,
        limit=NanoUSD(limit),
        hard=hard,
    )


def cost_of(nanos: int) -> NanoUSD:
    """What device time costs at PRICE."""
    return NanoUSD(nanos * PRICE // 3_600_000_000_000)
