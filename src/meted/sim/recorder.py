"""Every device's use at every moment, priced exactly: what the books and the plots are made of."""

from collections.abc import Iterable, Mapping, Sequence

from meted.domain.pool import Pool, Price
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros, NanoUSD, TenantName
from meted.sim.result import Segment, Use

MICROS_PER_HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
NOBODY = TenantName("")


class Recorder:
    """Begins with all devices idle at moment 0.

    A device's cost is rounded down along its whole time, so that its segments add up to its
    capacity times its prices to the nano-dollar.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._prices: dict[str, Price] = {
            device.kind: pool.price_of(device.kind) for device in pool.devices
        }
        self._kind = {device.index: device.kind for device in pool.devices}
        self._now: dict[int, tuple[int, Use, str, TenantName]] = {
            device.index: (0, Use.IDLE, "", NOBODY) for device in pool.devices
        }
        self._owed: dict[int, int] = dict.fromkeys(self._now, 0)
        """What the closed segments cost, in nano-USD times micros per hour, not rounded yet."""
        self.segments: list[Segment] = []

    @property
    def kinds(self) -> Mapping[int, str]:
        """The kind of each device."""
        return self._kind

    def use(self, device: int) -> Use:
        """What a device is used for now."""
        return self._now[device][1]

    def put(
        self,
        devices: Iterable[int],
        at: int,
        use: Use,
        who: str = "",
        tenant: TenantName = NOBODY,
    ) -> None:
        """From `at` on the devices are used so. Nothing changes for one that already is."""
        for device in devices:
            began, before, whose, _ = self._now[device]
            if (before, whose) == (use, who):
                continue
            self._end(device, began, at)
            self._now[device] = (at, use, who, tenant)

    def split(
        self,
        devices: Iterable[int],
        at: int,
        busy_micros: int,
        shares: Sequence[tuple[TenantName, int]] = (),
    ) -> None:
        """Of the time since a replica's last split, it had work for `busy_micros`.

        shares: of the busy time, by tenant; () if all is its own tenant's.
        """
        for device in devices:
            _, _, who, tenant = self._now[device]
            parts = shares or ((tenant, busy_micros),)
            self.spend(
                device,
                at,
                [(Use.SERVING, who, whose, micros) for whose, micros in parts],
                (Use.READY, who, tenant),
            )

    def spend(
        self,
        device: int,
        at: int,
        parts: Iterable[tuple[Use, str, TenantName, int]],
        rest: tuple[Use, str, TenantName],
    ) -> None:
        """Lay a device's time since its last segment out: parts of so many micros, as long as there
        is time, and the rest, in which it also goes on."""
        began = self._now[device][0]
        for use, who, tenant, micros in parts:
            until = min(at, began + micros)
            self._now[device] = (began, use, who, tenant)
            self._end(device, began, until)
            began = until
        self._now[device] = (began, *rest)
        self._end(device, began, at)
        self._now[device] = (at, *rest)

    def cut(self, devices: Iterable[int], at: int) -> None:
        """End the devices' segments at `at`; they go on as they are."""
        for device in devices:
            began, use, who, tenant = self._now[device]
            self._end(device, began, at)
            self._now[device] = (at, use, who, tenant)

    def reassign(self, segments: Sequence[Segment], first: int) -> None:
        """Put other segments in the place of those from number `first` on, at the same cost."""
        self.segments[first:] = segments

    def reprice(self, at: int, prices: Mapping[str, Price]) -> None:
        """Kinds cost something else from `at` on."""
        self.cut((device for device, kind in self._kind.items() if kind in prices), at)
        self._prices.update(prices)

    def close(self, at: int) -> Sequence[Segment]:
        """End all segments at `at`."""
        self.cut(self._now, at)
        return self.segments

    def spent(self, device: int) -> NanoUSD:
        """What a device's closed segments cost together."""
        return NanoUSD(self._owed[device] // MICROS_PER_HOUR)

    def _end(self, device: int, began: int, at: int) -> None:
        if at <= began:
            return
        _, use, who, tenant = self._now[device]
        before = self._owed[device]
        after = before + (at - began) * self._rate(self._prices[self._kind[device]], use)
        self._owed[device] = after
        cost = after // MICROS_PER_HOUR - before // MICROS_PER_HOUR
        self.segments.append(
            Segment(device, Micros(began), Micros(at), use, who, tenant, NanoUSD(cost))
        )

    @staticmethod
    def _rate(price: Price, use: Use) -> int:
        match use:
            case Use.GONE:
                return 0
            case Use.PARKED:
                return price.when_parked
            case Use.IDLE:
                return price.when_idle
            case _:
                return price.nano_usd_per_device_hour
