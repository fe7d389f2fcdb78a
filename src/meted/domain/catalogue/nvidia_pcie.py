"""NVIDIA's GPUs on PCI Express: older, smaller, or made for workstations.

Peaks, memory bandwidth and busy watts are the datasheets', with sparsity halved. link is PCI
Express in one direction. Memory is what the driver reports, error correction taken off. Idle watts
are usual readings of nvidia-smi with nothing loaded; NVIDIA does not publish them. network: a GPU's
share of the node named in its source.
"""

from meted.domain.device_kind import DeviceKind, Link, Precision

_MIB = 1024**2
_PCIE_3 = Link(bytes_per_second=16e9, latency_micros=10.0)
_PCIE_4 = Link(bytes_per_second=32e9, latency_micros=10.0)
_PCIE_5 = Link(bytes_per_second=64e9, latency_micros=10.0)


def _ethernet(gigabits: float, devices: int) -> Link:
    """A device's share of its node's adapter."""
    return Link(bytes_per_second=gigabits * 1e9 / 8 / devices, latency_micros=30.0)


_K80 = DeviceKind(
    name="k80",
    title="NVIDIA K80, one of its two GPUs, 12 GB",
    peak_flops={Precision.FP32: 4.365e12},
    memory_bytes=11_441 * _MIB,
    bandwidth=240e9,
    node_devices=16,
    link=_PCIE_3,
    network=_ethernet(25, 16),
    watts_busy=150.0,
    watts_idle=25.0,
    source="NVIDIA K80 board specification (2015), half a board with boost; AWS p2.16xlarge",
)
_P100 = DeviceKind(
    name="p100",
    title="NVIDIA P100 PCIe 16 GB",
    peak_flops={Precision.FP32: 9.3e12, Precision.FP16: 18.7e12},
    memory_bytes=16_280 * _MIB,
    bandwidth=732e9,
    node_devices=4,
    link=_PCIE_3,
    network=_ethernet(32, 4),
    watts_busy=250.0,
    watts_idle=30.0,
    source="NVIDIA P100 datasheet (2016), PCIe column; Google Cloud n1 with four GPUs, 32 Gb/s",
)
_T4 = DeviceKind(
    name="t4",
    title="NVIDIA T4 16 GB",
    peak_flops={
        Precision.FP32: 8.1e12,
        Precision.FP16: 65e12,
        Precision.INT8: 130e12,
        Precision.INT4: 260e12,
    },
    memory_bytes=15_360 * _MIB,
    bandwidth=320e9,
    node_devices=8,
    link=_PCIE_3,
    network=_ethernet(100, 8),
    watts_busy=70.0,
    watts_idle=10.0,
    source="NVIDIA T4 datasheet (2019); AWS g4dn.metal, 100 Gb/s",
)
_A10G = DeviceKind(
    name="a10g",
    title="NVIDIA A10G 24 GB",
    peak_flops={
        Precision.FP32: 35e12,
        Precision.TF32: 35e12,
        Precision.BF16: 70e12,
        Precision.FP16: 70e12,
        Precision.INT8: 140e12,
        Precision.INT4: 280e12,
    },
    memory_bytes=23_028 * _MIB,
    bandwidth=600e9,
    node_devices=8,
    link=_PCIE_4,
    network=_ethernet(100, 8),
    watts_busy=300.0,
    watts_idle=20.0,
    source="NVIDIA A10G datasheet (2021, published by AWS); AWS g5.48xlarge, 100 Gb/s",
)
_L4 = DeviceKind(
    name="l4",
    title="NVIDIA L4 24 GB",
    peak_flops={
        Precision.FP32: 30.3e12,
        Precision.TF32: 60e12,
        Precision.BF16: 121e12,
        Precision.FP16: 121e12,
        Precision.FP8: 242.5e12,
        Precision.INT8: 242.5e12,
    },
    memory_bytes=23_034 * _MIB,
    bandwidth=300e9,
    node_devices=8,
    link=_PCIE_4,
    network=_ethernet(100, 8),
    watts_busy=72.0,
    watts_idle=14.0,
    source="NVIDIA L4 datasheet (2023); AWS g6.48xlarge, 100 Gb/s",
)
_L40S = DeviceKind(
    name="l40s",
    title="NVIDIA L40S 48 GB",
    peak_flops={
        Precision.FP32: 91.6e12,
        Precision.TF32: 183e12,
        Precision.BF16: 362.05e12,
        Precision.FP16: 362.05e12,
        Precision.FP8: 733e12,
        Precision.INT8: 733e12,
    },
    memory_bytes=46_068 * _MIB,
    bandwidth=864e9,
    node_devices=8,
    link=_PCIE_4,
    network=_ethernet(400, 8),
    watts_busy=350.0,
    watts_idle=35.0,
    source="NVIDIA L40S datasheet (2023); AWS g6e.48xlarge, 400 Gb/s",
)
_RTX_4090 = DeviceKind(
    name="rtx-4090",
    title="NVIDIA GeForce RTX 4090 24 GB",
    # With sums kept in fp32, as models need; sums in fp16 are twice as fast on this card.
    peak_flops={
        Precision.FP32: 82.6e12,
        Precision.TF32: 82.6e12,
        Precision.BF16: 165.2e12,
        Precision.FP16: 165.2e12,
        Precision.FP8: 330.3e12,
        Precision.INT8: 660.6e12,
    },
    memory_bytes=24_564 * _MIB,
    bandwidth=1008e9,
    node_devices=8,
    link=_PCIE_4,
    network=_ethernet(25, 8),
    watts_busy=450.0,
    watts_idle=20.0,
    source="NVIDIA Ada GPU architecture whitepaper (2022), appendix A; network assumed, 25 Gb/s",
)
_RTX_PRO_6000 = DeviceKind(
    name="rtx-pro-6000",
    title="NVIDIA RTX PRO 6000 Blackwell 96 GB",
    peak_flops={
        Precision.FP32: 126.0e12,
        Precision.TF32: 251.9e12,
        Precision.BF16: 503.8e12,
        Precision.FP16: 503.8e12,
        Precision.FP8: 1007.6e12,
        Precision.INT8: 1007.6e12,
    },
    memory_bytes=97_887 * _MIB,
    bandwidth=1792e9,
    node_devices=8,
    link=_PCIE_5,
    network=_ethernet(400, 8),
    watts_busy=600.0,
    watts_idle=20.0,
    source="NVIDIA RTX Blackwell PRO GPU architecture whitepaper (2025), workstation edition with "
    "sums in fp32; network assumed, 400 Gb/s",
)

NVIDIA_PCIE = (_K80, _P100, _T4, _A10G, _L4, _L40S, _RTX_4090, _RTX_PRO_6000)
