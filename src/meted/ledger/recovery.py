"""After a crash of the house: close what stood open, and say what was lost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meted.domain.line import Account, Interval, Kind, Line
from meted.domain.units import DeviceNanos, NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """What a session's closed intervals hold on an account that was never resolved.

    An engine's step in progress, training since the last checkpoint, a request that never ended.
    """

    account: Account
    device_nanos: DeviceNanos
    amount: NanoUSD


def recovered(interval: Interval, suspended: Sequence[Suspended]) -> Interval:
    """The last interval of a session that crashed, fit to be closed.

    What is suspended moves to `lost` by pairs of lines that sum to zero, so that the interval still
    adds up to its capacity. `suspended` covers earlier intervals and this one.
    """
    lines = list(interval.lines)
    for one in suspended:
        lines.append(
            Line(
                account=one.account,
                device_nanos=DeviceNanos(-one.device_nanos),
                amount=NanoUSD(-one.amount),
            )
        )
        lines.append(
            Line(account=lost(one.account), device_nanos=one.device_nanos, amount=one.amount)
        )
    return replace(interval, lines=tuple(lines))


def lost(account: Account) -> Account:
    """Where time goes whose work came to nothing: same job, deployment, request; no tenant pays."""
    return replace(account, kind=Kind.LOST, tenant=None)
