"""The simulation's books: every moment of every device in exactly one line, priced exactly."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meted.domain.line import Kind
from meted.domain.pool import Pool, Price
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros, NanoUSD, TenantName
from meted.sim.result import Result, Segment, Use
from meted.sim.scenario import PriceChange

MICROS_PER_HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR

LEDGER_KIND: Mapping[Use, Kind | None] = {
    Use.SERVING: Kind.REQUEST,
    Use.READY: Kind.IDLE,
    Use.LOADING: Kind.LOADING,
    Use.TRAINING: Kind.TRAINING,
    Use.RESTARTING: Kind.LOADING,
    Use.LOST: Kind.LOST,
    Use.IDLE: Kind.IDLE,
    Use.PARKED: Kind.IDLE,
    Use.GONE: None,
}
"""The ledger's word for each use; what is gone is bought from nobody."""


class BooksError(ValueError):
    """The books do not balance: which device, since when, by how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookLine:
    """Device time of one tenant, job or replica, kind of device and use, and what it cost."""

    tenant: TenantName
    who: str
    kind: str
    use: Use
    device_micros: int
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All lines of a simulation, in the order of their tenants, names, kinds and uses."""

    lines: tuple[BookLine, ...]

    @property
    def device_micros(self) -> int:
        return sum(line.device_micros for line in self.lines)

    @property
    def cost(self) -> NanoUSD:
        return NanoUSD(sum(line.cost for line in self.lines))

    def by_tenant(self) -> dict[TenantName, NanoUSD]:
        """What each tenant's lines cost; the house's are under the empty name."""
        found: dict[TenantName, NanoUSD] = {}
        for line in self.lines:
            found[line.tenant] = NanoUSD(found.get(line.tenant, 0) + line.cost)
        return found


def account(result: Result, pool: Pool, price_changes: Sequence[PriceChange] = ()) -> Books:
    """The books of a simulation, checked: each device's segments follow on each other from moment 0
    to the end, and cost its time at the prices of its pool, rounded down once.

    Raises BooksError where they do not.
    """
    kinds = {device.index: device.kind for device in pool.devices}
    by_device: dict[int, list[Segment]] = {index: [] for index in kinds}
    sums: dict[tuple[TenantName, str, str, Use], tuple[int, int]] = {}
    for one in result.segments:
        if one.device not in kinds:
            raise BooksError(f"device {one.device} is not in the pool, which has {len(kinds)}")
        by_device[one.device].append(one)
        key = (one.tenant, one.who, kinds[one.device], one.use)
        micros, cost = sums.get(key, (0, 0))
        sums[key] = (micros + one.ends - one.begins, cost + one.cost)
    histories = {kind: _history(pool, kind, price_changes) for kind in set(kinds.values())}
    for device, segments in by_device.items():
        _check(device, segments, result.ended, histories[kinds[device]])
    return Books(
        lines=tuple(
            BookLine(
                tenant=tenant,
                who=who,
                kind=kind,
                use=use,
                device_micros=micros,
                cost=NanoUSD(cost),
            )
            for (tenant, who, kind, use), (micros, cost) in sorted(sums.items())
        )
    )


def _history(
    pool: Pool, kind: str, changes: Iterable[PriceChange]
) -> Sequence[tuple[Micros, Price]]:
    """A kind's prices, each with the moment from which it holds; the first from 0."""
    later = [(one.at, one.prices[kind]) for one in changes if kind in one.prices]
    return [(Micros(0), pool.price_of(kind)), *sorted(later, key=lambda one: one[0])]


def _check(
    device: int, segments: Sequence[Segment], ended: Micros, history: Sequence[tuple[Micros, Price]]
) -> None:
    at, booked, owed = 0, 0, 0
    for one in sorted(segments, key=lambda one: one.begins):
        if one.begins != at or one.ends <= one.begins:
            raise BooksError(
                f"device {device} is booked from {one.begins} to {one.ends} us, expected a span "
                f"that begins at {at}; each moment belongs in one line"
            )
        at, booked = one.ends, booked + one.cost
        owed += _owed(one, history)
    if at != ended:
        raise BooksError(f"device {device} is booked up to {at} us, expected {ended}, the end")
    if booked != owed // MICROS_PER_HOUR:
        raise BooksError(
            f"the lines of device {device} cost {booked} nano-USD, its time at its prices "
            f"{owed // MICROS_PER_HOUR}; expected the same"
        )


def _owed(one: Segment, history: Sequence[tuple[Micros, Price]]) -> int:
    """Nano-USD times micros per hour of a segment, not rounded."""
    owed = 0
    for place, (since, price) in enumerate(history):
        until = history[place + 1][0] if place + 1 < len(history) else one.ends
        overlap = min(one.ends, until) - max(one.begins, since)
        if overlap > 0:
            owed += overlap * _rate(price, one.use)
    return owed


def _rate(price: Price, use: Use) -> int:
    if use is Use.GONE:
        return 0
    if use is Use.PARKED:
        return price.when_parked
    return price.when_idle if use is Use.IDLE else price.nano_usd_per_device_hour
