"""Device kinds by name."""

from collections.abc import Mapping
from types import MappingProxyType

from meted.domain.device_kind import DeviceKind, Link, Precision

_A100 = DeviceKind(
    name="a100-80gb",
    title="NVIDIA A100 SXM 80 GB",
    peak_flops={
        Precision.FP32: 19.5e12,
        Precision.TF32: 156e12,
        Precision.BF16: 312e12,
        Precision.FP16: 312e12,
        Precision.INT8: 624e12,
    },
    memory_bytes=80 * 1024**3,
    bandwidth=2.039e12,
    node_devices=8,
    link=Link(bytes_per_second=300e9, latency_micros=5.0),
    network=Link(bytes_per_second=25e9, latency_micros=10.0),
    watts_busy=400.0,
    watts_idle=60.0,
    source="NVIDIA A100 datasheet (2021)",
)

DEVICE_KINDS: Mapping[str, DeviceKind] = MappingProxyType({one.name: one for one in (_A100,)})
