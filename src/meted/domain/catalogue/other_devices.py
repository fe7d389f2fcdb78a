"""Devices of other makers, and a core of a processor.

AMD publishes busy watts, not idle ones; Google publishes neither, so a TPU's are guesses from the
192 W at most that a TPU v4 draws (Jouppi et al. 2023, arXiv 2304.01433), by peak and process.
"""

from meted.domain.device_kind import DeviceKind, Link, Precision

_GIB = 1024**3

_MI300X = DeviceKind(
    name="mi300x",
    title="AMD Instinct MI300X 192 GB",
    peak_flops={
        Precision.FP32: 163.4e12,
        Precision.TF32: 653.7e12,
        Precision.BF16: 1307.4e12,
        Precision.FP16: 1307.4e12,
        Precision.FP8: 2614.9e12,
        Precision.INT8: 2614.9e12,
    },
    memory_bytes=192 * _GIB,
    bandwidth=5.3e12,
    node_devices=8,
    # Seven Infinity Fabric links, one to each other device of the node.
    link=Link(bytes_per_second=7 * 64e9, latency_micros=8.0),
    network=Link(bytes_per_second=50e9, latency_micros=10.0),
    watts_busy=750.0,
    watts_idle=140.0,
    source="AMD Instinct MI300X datasheet (2023); network assumed, 400 Gb/s a device",
)

# Chips of a slice are joined by the same links inside a host and across hosts.
_ICI_V5E = Link(bytes_per_second=4 * 45e9, latency_micros=5.0)
_ICI_V5P = Link(bytes_per_second=6 * 90e9, latency_micros=5.0)

_TPU_V5E = DeviceKind(
    name="tpu-v5e",
    title="Google TPU v5e chip 16 GB",
    peak_flops={Precision.BF16: 197e12, Precision.INT8: 393e12},
    memory_bytes=16 * _GIB,
    bandwidth=819e9,
    node_devices=8,
    link=_ICI_V5E,
    network=_ICI_V5E,
    watts_busy=200.0,
    watts_idle=60.0,
    source="Google Cloud TPU v5e documentation (2024); links: Austin et al., How to Scale Your "
    "Model (2025), four of 45 GB/s; watts guessed",
)
_TPU_V5P = DeviceKind(
    name="tpu-v5p",
    title="Google TPU v5p chip 95 GB",
    peak_flops={Precision.BF16: 459e12, Precision.INT8: 918e12},
    memory_bytes=95 * _GIB,
    bandwidth=2.765e12,
    node_devices=4,
    link=_ICI_V5P,
    network=_ICI_V5P,
    watts_busy=450.0,
    watts_idle=100.0,
    source="Google Cloud TPU v5p documentation (2024); links: Austin et al., How to Scale Your "
    "Model (2025), six of 90 GB/s; watts guessed",
)
_CPU_CORE = DeviceKind(
    name="cpu-core",
    title="one core of a server processor",
    # 16-bit numbers are computed in fp32; int8 by VNNI or its like makes four times as many.
    peak_flops={
        Precision.FP32: 96e9,
        Precision.BF16: 96e9,
        Precision.FP16: 96e9,
        Precision.INT8: 384e9,
    },
    memory_bytes=4 * _GIB,
    bandwidth=6.4e9,
    node_devices=32,
    link=Link(bytes_per_second=6.4e9, latency_micros=1.0),
    network=Link(bytes_per_second=25e9 / 8 / 32, latency_micros=50.0),
    watts_busy=6.0,
    watts_idle=1.5,
    source="two AVX2 units for fused multiply-add at 3 GHz; a core's share of eight channels of "
    "DDR4-3200 and of 200 W in a processor of 32 cores; a machine's own cores are measured when "
    "Meted starts",
)

OTHER_DEVICES = (_MI300X, _TPU_V5E, _TPU_V5P, _CPU_CORE)
