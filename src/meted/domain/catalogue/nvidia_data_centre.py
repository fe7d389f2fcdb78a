"""NVIDIA's data centre GPUs with NVLink, from V100 to B200.

Peaks, memory bandwidth, links and busy watts are the datasheets', with sparsity halved and links in
one direction. Memory is what the driver reports. Idle watts are usual readings of nvidia-smi with
nothing loaded; NVIDIA does not publish them. network: a GPU's share of its usual node's adapters.
"""

from meted.domain.device_kind import DeviceKind, Link, Precision

_MIB = 1024**2
_INFINIBAND_HDR = Link(bytes_per_second=25e9, latency_micros=10.0)
_INFINIBAND_NDR = Link(bytes_per_second=50e9, latency_micros=10.0)
_PCIE_5 = Link(bytes_per_second=64e9, latency_micros=10.0)
_NVLINK_4 = Link(bytes_per_second=450e9, latency_micros=5.0)

_A100_PEAKS = {
    Precision.FP32: 19.5e12,
    Precision.TF32: 156e12,
    Precision.BF16: 312e12,
    Precision.FP16: 312e12,
    Precision.INT8: 624e12,
    Precision.INT4: 1248e12,
}
_H100_PEAKS = {
    Precision.FP32: 67e12,
    Precision.TF32: 494.5e12,
    Precision.BF16: 989.5e12,
    Precision.FP16: 989.5e12,
    Precision.FP8: 1979e12,
    Precision.INT8: 1979e12,
}


def _v100(memory_gb: int, memory_mib: int) -> DeviceKind:
    return DeviceKind(
        name=f"v100-{memory_gb}gb",
        title=f"NVIDIA V100 SXM2 {memory_gb} GB",
        peak_flops={Precision.FP32: 15.7e12, Precision.FP16: 125e12},
        memory_bytes=memory_mib * _MIB,
        bandwidth=900e9,
        node_devices=8,
        link=Link(bytes_per_second=150e9, latency_micros=5.0),
        network=Link(bytes_per_second=1.56e9, latency_micros=30.0),
        watts_busy=300.0,
        watts_idle=40.0,
        source="NVIDIA V100 datasheet (January 2020); network of AWS p3dn.24xlarge, 100 Gb/s",
    )


_A100_40 = DeviceKind(
    name="a100-40gb",
    title="NVIDIA A100 SXM 40 GB",
    peak_flops=_A100_PEAKS,
    memory_bytes=40_960 * _MIB,
    bandwidth=1.555e12,
    node_devices=8,
    link=Link(bytes_per_second=300e9, latency_micros=5.0),
    network=_INFINIBAND_HDR,
    watts_busy=400.0,
    watts_idle=55.0,
    source="NVIDIA A100 datasheet (2020); network of DGX A100, 200 Gb/s a GPU",
)
_A100_80 = DeviceKind(
    name="a100-80gb",
    title="NVIDIA A100 SXM 80 GB",
    peak_flops=_A100_PEAKS,
    memory_bytes=81_920 * _MIB,
    bandwidth=2.039e12,
    node_devices=8,
    link=Link(bytes_per_second=300e9, latency_micros=5.0),
    network=_INFINIBAND_HDR,
    watts_busy=400.0,
    watts_idle=60.0,
    source="NVIDIA A100 datasheet (2021); network of DGX A100, 200 Gb/s a GPU",
)
_H100 = DeviceKind(
    name="h100-80gb",
    title="NVIDIA H100 SXM 80 GB",
    peak_flops=_H100_PEAKS,
    memory_bytes=81_559 * _MIB,
    bandwidth=3.35e12,
    node_devices=8,
    link=_NVLINK_4,
    network=_INFINIBAND_NDR,
    watts_busy=700.0,
    watts_idle=70.0,
    source="NVIDIA H100 datasheet (2023); network of DGX H100, 400 Gb/s a GPU",
)
_H100_PCIE = DeviceKind(
    name="h100-pcie",
    title="NVIDIA H100 PCIe 80 GB",
    peak_flops={
        Precision.FP32: 51e12,
        Precision.TF32: 378e12,
        Precision.BF16: 756.5e12,
        Precision.FP16: 756.5e12,
        Precision.FP8: 1513e12,
        Precision.INT8: 1513e12,
    },
    memory_bytes=81_559 * _MIB,
    bandwidth=2.0e12,
    node_devices=8,
    link=_PCIE_5,
    network=_INFINIBAND_HDR,
    watts_busy=350.0,
    watts_idle=50.0,
    source="NVIDIA H100 datasheet (2022), PCIe column; pairs without NVLink bridges; network "
    "assumed, 200 Gb/s a GPU",
)
_H200 = DeviceKind(
    name="h200-141gb",
    title="NVIDIA H200 SXM 141 GB",
    peak_flops=_H100_PEAKS,
    memory_bytes=143_771 * _MIB,
    bandwidth=4.8e12,
    node_devices=8,
    link=_NVLINK_4,
    network=_INFINIBAND_NDR,
    watts_busy=700.0,
    watts_idle=75.0,
    source="NVIDIA H200 datasheet (2024); network of DGX H200, 400 Gb/s a GPU",
)
_B200 = DeviceKind(
    name="b200-180gb",
    title="NVIDIA B200 SXM 180 GB",
    peak_flops={
        Precision.FP32: 75e12,
        Precision.TF32: 1.125e15,
        Precision.BF16: 2.25e15,
        Precision.FP16: 2.25e15,
        Precision.FP8: 4.5e15,
        Precision.INT8: 4.5e15,
    },
    memory_bytes=183_359 * _MIB,
    bandwidth=8.0e12,
    node_devices=8,
    link=Link(bytes_per_second=900e9, latency_micros=5.0),
    network=_INFINIBAND_NDR,
    watts_busy=1000.0,
    watts_idle=140.0,
    source="NVIDIA DGX B200 and HGX B200 datasheets (2024), an eighth of a node",
)

NVIDIA_DATA_CENTRE = (
    _v100(16, 16_160),
    _v100(32, 32_510),
    _A100_40,
    _A100_80,
    _H100,
    _H100_PCIE,
    _H200,
    _B200,
)
