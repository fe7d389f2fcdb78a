"""Built-in device kinds: sane as a whole, and what the datasheets say."""

from dataclasses import replace

import pytest

from meted.domain.catalogue import DEVICE_ALIASES, DEVICE_KINDS, UnknownFactError
from meted.domain.catalogue import lookup_device_kind as lookup
from meted.domain.device_kind import DeviceKind, Precision
from meted.predict.setup import peak

GIB = 1024**3
FASTER = (
    (Precision.FP32, Precision.TF32),
    (Precision.TF32, Precision.BF16),
    (Precision.FP32, Precision.FP16),
    (Precision.BF16, Precision.FP8),
    (Precision.BF16, Precision.INT8),
    (Precision.FP16, Precision.INT8),
    (Precision.INT8, Precision.INT4),
)

each = pytest.mark.parametrize("kind", DEVICE_KINDS.values(), ids=DEVICE_KINDS.keys())


@each
def test_fewer_bits_are_never_slower(kind: DeviceKind) -> None:
    peaks = kind.peak_flops
    for more, fewer in FASTER:
        if more in peaks and fewer in peaks:
            assert peaks[more] <= peaks[fewer], f"{more} {fewer}"


@each
def test_16_bit_tensor_peaks_are_dense(kind: DeviceKind) -> None:
    # A vendor's figure with sparsity taken for a dense one would make 8 bits four times 16.
    peaks = kind.peak_flops
    if Precision.FP8 in peaks:
        assert peaks[Precision.FP8] == pytest.approx(2 * peaks[Precision.BF16], rel=0.02)


@each
def test_the_ridge_lies_where_ridges_lie(kind: DeviceKind) -> None:
    """FLOP per byte at which arithmetic takes as long as reading (Williams et al. 2009)."""
    assert 10 <= max(kind.peak_flops.values()) / kind.bandwidth <= 1_000


@each
def test_memory_is_read_in_a_tenth_to_a_second_and_links_are_slower_than_it(
    kind: DeviceKind,
) -> None:
    assert 0.01 <= kind.memory_bytes / kind.bandwidth <= 1.0
    assert kind.network.bytes_per_second <= kind.link.bytes_per_second <= kind.bandwidth


@each
def test_watts_are_a_devices_and_idle_is_a_part_of_busy(kind: DeviceKind) -> None:
    assert 1 <= kind.watts_busy <= 1_200
    assert 0.02 <= kind.watts_idle / kind.watts_busy <= 0.4
    assert len(kind.source) > 20


@pytest.mark.parametrize(
    ("name", "precision", "teraflops", "memory_gb", "gigabytes_per_second", "watts"),
    [
        ("k80", Precision.FP32, 4.37, 12, 240, 150),
        ("p100", Precision.FP16, 18.7, 16, 732, 250),
        ("t4", Precision.FP16, 65, 16, 320, 70),
        ("v100-16gb", Precision.FP16, 125, 16, 900, 300),
        ("v100-32gb", Precision.FP32, 15.7, 32, 900, 300),
        ("a10g", Precision.BF16, 70, 24, 600, 300),
        ("l4", Precision.BF16, 121, 24, 300, 72),
        ("l40s", Precision.BF16, 362.05, 48, 864, 350),
        ("rtx-4090", Precision.BF16, 165.2, 24, 1008, 450),
        ("rtx-pro-6000", Precision.BF16, 503.8, 96, 1792, 600),
        ("a100-40gb", Precision.TF32, 156, 40, 1555, 400),
        ("a100-80gb", Precision.BF16, 312, 80, 2039, 400),
        ("h100-80gb", Precision.FP8, 1979, 80, 3350, 700),
        ("h100-pcie", Precision.BF16, 756.5, 80, 2000, 350),
        ("h200-141gb", Precision.BF16, 989.5, 141, 4800, 700),
        ("b200-180gb", Precision.BF16, 2250, 180, 8000, 1000),
        ("mi300x", Precision.BF16, 1307.4, 192, 5300, 750),
        ("tpu-v5e", Precision.BF16, 197, 16, 819, 200),
        ("tpu-v5p", Precision.BF16, 459, 95, 2765, 450),
    ],
)
def test_datasheets_say_the_same(
    name: str,
    precision: Precision,
    teraflops: float,
    memory_gb: int,
    gigabytes_per_second: float,
    watts: float,
) -> None:
    kind = DEVICE_KINDS[name]
    assert kind.peak_flops[precision] / 1e12 == pytest.approx(teraflops, rel=0.002)
    # Drivers report up to a tenth less than the datasheet's memory, error correction taken off.
    assert 0.9 * memory_gb <= kind.memory_bytes / GIB <= memory_gb * 1.03
    assert kind.bandwidth / 1e9 == pytest.approx(gigabytes_per_second, rel=0.002)
    assert kind.watts_busy == watts


def test_a_precision_that_a_device_lacks_is_an_error_that_names_it() -> None:
    for name, lacking in (("v100-16gb", Precision.BF16), ("a100-80gb", Precision.FP8)):
        with pytest.raises(ValueError, match=rf"{name} has no peak FLOP/s for {lacking}"):
            peak(DEVICE_KINDS[name], lacking)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("A100-80GB", "a100-80gb"),
        ("a100", "a100-80gb"),
        ("H100", "h100-80gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200-141gb"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("RTX4090", "rtx-4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("TPU v5e", "tpu-v5e"),
        ("cpu", "cpu-core"),
    ],
)
def test_kinds_are_found_as_people_clouds_and_drivers_write_them(said: str, name: str) -> None:
    assert lookup(said).name == name


def test_aliases_lead_to_kinds_and_hide_none() -> None:
    assert set(DEVICE_ALIASES.values()) <= set(DEVICE_KINDS)
    assert not set(DEVICE_ALIASES) & set(DEVICE_KINDS)
    assert all(lookup(name).name == name for name in DEVICE_KINDS)


def test_an_unknown_kind_is_a_sentence_with_near_names() -> None:
    with pytest.raises(
        UnknownFactError, match="device kind 'h1000' is not known; near names: h100"
    ):
        lookup("h1000")


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("peak_flops", {"peak_flops": {}}),
        ("peak_flops.bf16", {"peak_flops": {Precision.BF16: 0.0}}),
        ("memory_bytes", {"memory_bytes": 0}),
        ("bandwidth", {"bandwidth": float("nan")}),
        ("watts_idle", {"watts_idle": 1_000.0}),
    ],
)
def test_an_impossible_fact_is_named(fact: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"^{fact} of t4 is "):
        replace(DEVICE_KINDS["t4"], **changes)  # type: ignore[arg-type]
