"""The pool: the devices that Meted allots, and what one of them costs."""

from dataclasses import dataclass

from meted.domain.units import NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one device costs, in nano-USD per device-hour, busy or idle."""

    nano_usd_per_device_hour: NanoUSD

    def __post_init__(self) -> None:
        if self.nano_usd_per_device_hour < 0:
            raise ValueError(
                f"price is {self.nano_usd_per_device_hour} nano-USD per device-hour, "
                "expected 0 or more; correct pool.price_usd_per_device_hour"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One processor core of a node, by the number its operating system gives it."""

    index: int
    kind: str = "cpu-core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Devices of one kind with one price."""

    devices: tuple[Device, ...]
    price: Price

    def __post_init__(self) -> None:
        if not self.devices:
            raise ValueError("the pool has no device; name at least one core in pool.cores")
        indices = [device.index for device in self.devices]
        if len(set(indices)) != len(indices):
            raise ValueError(f"the pool names a device twice: {sorted(indices)}; name each once")

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(device.index for device in self.devices)
