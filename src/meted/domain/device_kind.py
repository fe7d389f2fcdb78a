"""C: what a kind of device can do, and at which power."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """How a number is kept or computed with."""

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> float:
        """Bits of one stored number, scales of a quantised group of 64 included."""
        return _BITS[self]


_BITS = {
    Precision.FP32: 32.0,
    Precision.TF32: 32.0,
    Precision.BF16: 16.0,
    Precision.FP16: 16.0,
    Precision.FP8: 8.0,
    Precision.INT8: 8.25,
    Precision.INT4: 4.25,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What joins a device to others: bytes per second in one direction, and one message's delay."""

    bytes_per_second: float
    latency_micros: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKind:
    """A kind of device. Peaks are dense: vendors' figures with sparsity are halved.

    peak_flops: FLOP per second by precision of the arithmetic. memory_bytes, bandwidth: its memory
    and what it reads from it in a second. node_devices: devices in a usual node. link: to the
    others in its node. network: its share of the node's network. watts_busy, watts_idle: power.
    source: where the facts come from.

    Raises ValueError, naming the fact, if one is impossible.
    """

    name: str
    title: str
    peak_flops: Mapping[Precision, float]
    memory_bytes: int
    bandwidth: float
    node_devices: int
    link: Link
    network: Link
    watts_busy: float
    watts_idle: float
    source: str

    def __post_init__(self) -> None:
        if not self.peak_flops:
            raise ValueError(f"peak_flops of {self.name} is empty, expected a peak by precision")
        positive = {f"peak_flops.{one}": peak for one, peak in self.peak_flops.items()}
        positive |= {
            "memory_bytes": float(self.memory_bytes),
            "bandwidth": self.bandwidth,
            "node_devices": float(self.node_devices),
            "link.bytes_per_second": self.link.bytes_per_second,
            "network.bytes_per_second": self.network.bytes_per_second,
            "watts_busy": self.watts_busy,
        }
        for fact, value in positive.items():
            if not value > 0:
                raise ValueError(f"{fact} of {self.name} is {value}, expected more than 0")
        if not 0 <= self.watts_idle <= self.watts_busy:
            raise ValueError(
                f"watts_idle of {self.name} is {self.watts_idle}, expected 0 to its watts_busy, "
                f"{self.watts_busy}"
            )
