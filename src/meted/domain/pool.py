"""The pool: the devices that Meted allots, and what one of them costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meted.domain.units import NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one device costs, in nano-USD per device-hour, busy, idle or parked.

    idle: on, and used by nobody; None: as much as busy, as for a rented device. parked: given back
    or switched off; None: as much as idle, as for a device that cannot be given back.
    """

    nano_usd_per_device_hour: NanoUSD
    idle: NanoUSD | None = None
    parked: NanoUSD | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("price", self.nano_usd_per_device_hour),
            ("price of an idle device", self.idle),
            ("price of a parked device", self.parked),
        ):
            if value is not None and value < 0:
                raise ValueError(
                    f"{name} is {value} nano-USD per device-hour, "
                    "expected 0 or more; correct pool.price_usd_per_device_hour"
                )

    @property
    def when_idle(self) -> NanoUSD:
        return self.nano_usd_per_device_hour if self.idle is None else self.idle

    @property
    def when_parked(self) -> NanoUSD:
        return self.when_idle if self.parked is None else self.parked


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A core, a GPU or another accelerator, by its number in the pool; node: the machine it is in.

    Numbers of processor cores are those that the operating system gives them.
    """

    index: int
    kind: str = "cpu-core"
    node: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Devices, of one kind or several, with their prices.

    price: of every kind that `prices` does not name. shared: the operating system lets several
    workers use a device by need, as it does with processor cores; otherwise a device has one user
    at a time. spot: kinds whose devices may vanish.
    """

    devices: tuple[Device, ...]
    price: Price
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])
    shared: bool = True
    spot: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.devices:
            raise ValueError("the pool has no device; name at least one core in pool.cores")
        indices = [device.index for device in self.devices]
        if len(set(indices)) != len(indices):
            raise ValueError(f"the pool names a device twice: {sorted(indices)}; name each once")

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(device.index for device in self.devices)

    def price_of(self, kind: str) -> Price:
        """What a device of a kind costs."""
        return self.prices.get(kind, self.price)
