"""Offers: what a device of a kind costs, from whom, and until when that was true."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.units import NanoUSD


class Purchase(StrEnum):
    """How a device is had."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    RESERVED = "reserved"
    OWNED = "owned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One way of having devices of a kind.

    devices: how many come together (one node of a cloud's catalogue). available: most devices of
    this offer, None for no limit. interruptions_per_device_hour: how often a spot device vanishes.
    dated: ISO date of the price. source: where it was read.

    Raises ValueError, naming the fact, if one is impossible.
    """

    kind: str
    purchase: Purchase
    nano_usd_per_device_hour: NanoUSD
    devices: int = 1
    available: int | None = None
    provider: str = ""
    region: str = ""
    interruptions_per_device_hour: float = 0.0
    dated: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        bounds = (
            ("nano_usd_per_device_hour", self.nano_usd_per_device_hour, 0),
            ("devices", self.devices, 1),
            ("available", self.available, 0),
            ("interruptions_per_device_hour", self.interruptions_per_device_hour, 0),
        )
        for fact, value, least in bounds:
            if value is not None and not value >= least:
                raise ValueError(
                    f"{fact} of an offer of {self.kind} is {value}, expected {least} or more"
                )
