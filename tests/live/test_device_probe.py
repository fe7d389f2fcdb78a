"""Measured cores are kept, a disturbed measurement replaces no good one, and they make a device."""

from pathlib import Path

import pytest

from meted.domain.device_kind import Precision
from meted.live.device_probe import (
    CoreGroup,
    ProbedDevices,
    cpu_model,
    device_kind,
    kind_name,
    probe,
)
from meted.predict.cores import CORE_PREFIX


def group(*, gigaflops: float, contended: bool = False) -> CoreGroup:
    return CoreGroup(
        cpu=cpu_model(),
        threads=2,
        flops={Precision.FP32: gigaflops * 1e9},
        bandwidth=20e9,
        memory_bytes=8 << 30,
        seconds=1.0,
        contended=contended,
    )


def test_what_was_measured_is_known_to_the_next_house(tmp_path: Path) -> None:
    assert ProbedDevices(tmp_path).known(2) is None
    found = ProbedDevices(tmp_path).keep(group(gigaflops=300))
    assert ProbedDevices(tmp_path).known(2) == found
    assert ProbedDevices(tmp_path).known(1) is None


def test_a_disturbed_measurement_replaces_no_good_one(tmp_path: Path) -> None:
    probed = ProbedDevices(tmp_path)
    good = probed.keep(group(gigaflops=300))
    assert probed.keep(group(gigaflops=150, contended=True)) == good
    assert probed.known(2) == good
    better = probed.keep(group(gigaflops=310))
    assert probed.known(2) == better


def test_a_disturbed_measurement_is_better_than_none(tmp_path: Path) -> None:
    probed = ProbedDevices(tmp_path)
    first = probed.keep(group(gigaflops=150, contended=True))
    assert probed.known(2) == first


def test_a_probe_that_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    probed, said = ProbedDevices(tmp_path), tmp_path / "probe.out"
    said.write_bytes(b'{"cpu": "half')
    assert probed.take(said) is None
    assert probed.take(said) is None
    assert list(tmp_path.iterdir()) == []


def test_a_group_of_cores_is_one_device_named_after_its_processor() -> None:
    kind = device_kind(group(gigaflops=300))
    assert kind.name == kind_name(cpu_model(), 2)
    assert kind.name.startswith(CORE_PREFIX)
    assert kind.peak_flops[Precision.FP32] == 300e9
    assert kind_name("Intel(R) Xeon(R)", 2) != kind_name("Intel(R) Xeon(R)", 1)


@pytest.mark.filterwarnings("ignore")
def test_the_probe_measures_arithmetic_and_memory_of_these_cores() -> None:
    found = probe(1)
    assert found.flops[Precision.FP32] > 1e9
    assert found.flops[Precision.INT8] > 1e9
    assert 1e8 < found.bandwidth < 1e13
