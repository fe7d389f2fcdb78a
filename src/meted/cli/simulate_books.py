"""A simulation's books: device time by use, and whether it adds up to the pool's capacity."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.pool import Pool, Price
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR
from meted.sim.result import Result, Use

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Device time of a kind in one use for one tenant. Money in nano-USD."""

    kind: str
    use: Use
    tenant: str
    device_micros: int
    nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """lines: all of them. capacity_micros: devices times the time simulated. capacity_nano_usd:
    that time, in each use, times its price. gaps: devices whose segments leave a moment out or
    count one twice."""

    lines: tuple[Line, ...]
    capacity_micros: int
    capacity_nano_usd: int
    gaps: tuple[int, ...]

    @property
    def device_micros(self) -> int:
        return sum(one.device_micros for one in self.lines)

    @property
    def nano_usd(self) -> int:
        return sum(one.nano_usd for one in self.lines)

    @property
    def balanced(self) -> bool:
        """Every moment of every device is in exactly one line, and lines cost what it costs."""
        return (
            not self.gaps
            and self.device_micros == self.capacity_micros
            and self.nano_usd == self.capacity_nano_usd
        )

    @property
    def verdict(self) -> str:
        """The check in a sentence with its numbers."""
        says = "balance" if self.balanced else "do NOT balance"
        return (
            f"The books {says}: lines of {self.device_micros} device-micros and {self.nano_usd} "
            f"nano-USD; capacity x price is {self.capacity_micros} and {self.capacity_nano_usd}."
        )


def books_of(result: Result, pool: Pool) -> Books:
    """The lines of a result whose prices never changed, and what they must add up to."""
    kind = {device.index: device.kind for device in pool.devices}
    sums: dict[tuple[str, Use, str], list[int]] = {}
    owed = dict.fromkeys(kind, 0)
    ends = dict.fromkeys(kind, 0)
    gaps: set[int] = set()
    for one in sorted(result.segments, key=lambda one: (one.device, one.begins)):
        name = kind[one.device]
        line = sums.setdefault((name, one.use, one.tenant), [0, 0])
        line[0] += one.ends - one.begins
        line[1] += one.cost
        if one.begins != ends[one.device]:
            gaps.add(one.device)
        ends[one.device] = one.ends
        owed[one.device] += (one.ends - one.begins) * _rate(pool.price_of(name), one.use)
    gaps.update(device for device, end in ends.items() if end != result.ended)
    return Books(
        lines=tuple(
            Line(kind=name, use=use, tenant=tenant, device_micros=micros, nano_usd=cost)
            for (name, use, tenant), (micros, cost) in sorted(sums.items())
        ),
        capacity_micros=len(kind) * result.ended,
        capacity_nano_usd=sum(one // HOUR for one in owed.values()),
        gaps=tuple(sorted(gaps)),
    )


def all_balanced(books: Sequence[Books]) -> bool:
    return all(one.balanced for one in books)


def _rate(price: Price, use: Use) -> int:
    """Nano-USD per device-hour."""
    if use is Use.GONE:
        return 0
    if use is Use.PARKED:
        return price.when_parked
    return price.when_idle if use is Use.IDLE else price.nano_usd_per_device_hour
