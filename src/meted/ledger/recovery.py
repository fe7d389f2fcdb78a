"""After a crash of the house: close what stood open, and say what was lost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.pool import Price
from meted.domain.units import NANOS_PER_MICRO, DeploymentName, DeviceNanos, Micros, NanoUSD
from meted.ledger.meter import IN_PROGRESS
from meted.ledger.money import amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """What a session's closed intervals hold on an account that was never resolved.

    An engine's step in progress, training since the last checkpoint, a request that never ended.
    """

    account: Account
    device_nanos: DeviceNanos
    amount: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A request whose end is durable, and what its session's intervals hold of it so far."""

    account: Account
    ended: Micros
    device_nanos: DeviceNanos
    cost: NanoUSD
    posted_nanos: DeviceNanos
    posted_cost: NanoUSD


def recovered(
    interval: Interval, suspended: Sequence[Suspended], acknowledged: Sequence[Acknowledged] = ()
) -> Interval:
    """The last interval of a session that crashed, fit to be closed.

    It reaches to the last end that a client was told, and holds what each of them was told. What
    such a request still lacks comes first from its deployment's steps in progress, which turned out
    to be its own, then from the time that passed since the open interval was written. What is
    suspended after that moves to `lost`; all by lines that sum to zero or to the added capacity.
    `suspended` and `acknowledged` cover earlier intervals and this one.
    """
    missing = [one for one in acknowledged if _lacking(one) != (0, 0)]
    left = _without_reported(suspended, missing)
    lines = [line for line in interval.lines if line.account.kind is not Kind.IDLE]
    lines += [_line(one.account, *_lacking(one)) for one in missing]
    for one, rest in zip(suspended, left, strict=True):
        lines.append(_line(one.account, -one.device_nanos, -one.amount))
        lines.append(_line(lost(one.account), rest.device_nanos, rest.amount))
    used = sum(line.device_nanos for line in lines)
    ended = max([interval.ended, *(one.ended for one in missing)])
    short = used - _capacity(interval, ended)
    if short > 0:
        # Clocks are read one after the other: let the interval reach as far as its lines need.
        ended = Micros(ended - -short // (interval.devices * NANOS_PER_MICRO))
    capacity, total = _capacity(interval, ended), _amount(interval, ended)
    cost = sum(line.amount for line in lines)
    lines.append(_line(Account(kind=Kind.IDLE), capacity - used, total - cost))
    return replace(
        interval,
        ended=ended,
        capacity_nanos=capacity,
        amount=total,
        lines=tuple(line for line in lines if line.device_nanos or line.amount),
    )


def _lacking(one: Acknowledged) -> tuple[int, int]:
    return one.device_nanos - one.posted_nanos, one.cost - one.posted_cost


def _without_reported(
    suspended: Sequence[Suspended], acknowledged: Sequence[Acknowledged]
) -> list[Suspended]:
    """What stays suspended once steps in progress have gone to the requests they were for."""
    wanted: dict[DeploymentName | None, int] = {}
    for one in acknowledged:
        nanos, _ = _lacking(one)
        name = one.account.deployment
        wanted[name] = wanted.get(name, 0) + max(0, nanos)
    left: list[Suspended] = []
    for one in suspended:
        account = one.account
        take = 0
        if account.kind is Kind.REQUEST and account.note == IN_PROGRESS and one.device_nanos > 0:
            take = min(one.device_nanos, wanted.get(account.deployment, 0))
            wanted[account.deployment] = wanted.get(account.deployment, 0) - take
        paid = one.amount * take // one.device_nanos if take else 0
        left.append(
            replace(
                one,
                device_nanos=DeviceNanos(one.device_nanos - take),
                amount=NanoUSD(one.amount - paid),
            )
        )
    return left


def _capacity(interval: Interval, ended: Micros) -> DeviceNanos:
    return DeviceNanos((ended - interval.started) * interval.devices * NANOS_PER_MICRO)


def _amount(interval: Interval, ended: Micros) -> NanoUSD:
    price = Price(nano_usd_per_device_hour=interval.nano_usd_per_device_hour)
    before, after = (
        amount(
            DeviceNanos((moment - interval.priced_from) * interval.devices * NANOS_PER_MICRO), price
        )
        for moment in (interval.started, ended)
    )
    return NanoUSD(after - before)


def _line(account: Account, nanos: int, cost: int) -> Line:
    return Line(account=account, device_nanos=DeviceNanos(nanos), amount=NanoUSD(cost))


def lost(account: Account) -> Account:
    """Where time goes whose work came to nothing: same job, deployment, request; no tenant pays."""
    return replace(account, kind=Kind.LOST, tenant=None)
