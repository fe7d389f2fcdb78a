"""Calibrations are kept by family, kind, engine version and weights; others are doubted."""

from dataclasses import replace
from pathlib import Path

from meted.domain.catalogue import lookup_architecture
from meted.domain.device_kind import Precision
from meted.live.calibrations import Calibrations, believe
from meted.live.device_probe import CoreGroup, device_kind
from meted.live.predicted import usual_algorithm
from meted.predict.batch import Batch
from meted.predict.calibration import MeasuredStep, calibrate
from meted.predict.cores import CORES_PRIOR
from meted.predict.setup import Setup

CORES = CoreGroup(
    cpu="Some Cores",
    threads=2,
    flops={Precision.FP32: 3e11, Precision.INT8: 1.2e12},
    bandwidth=3e10,
    memory_bytes=16 << 30,
    seconds=1.0,
    contended=False,
)
KIND = device_kind(CORES)
SETUP = Setup(
    architecture=lookup_architecture("smollm2-135m"),
    kind=KIND,
    algorithm=usual_algorithm(KIND, Precision.INT8),
)
STEP = Batch(requests=4, prompt=256, output=64).steady_step()
MEASURED = calibrate(
    [
        MeasuredStep(
            setup=SETUP, work=Batch(requests=n, prompt=200, output=50).steady_step(), micros=9e3 * n
        )
        for n in (1, 2, 4, 8)
    ],
    CORES_PRIOR,
)


def test_before_anything_is_kept_the_roofline_is_believed(tmp_path: Path) -> None:
    belief = believe(SETUP, Calibrations(tmp_path))
    assert "roofline" in belief.origin
    assert belief.before.factors == CORES_PRIOR.factors


def test_this_engines_own_calibration_is_believed_most(tmp_path: Path) -> None:
    kept = Calibrations(tmp_path)
    kept.save(SETUP, MEASURED)
    belief = believe(SETUP, Calibrations(tmp_path))
    assert "widened" not in belief.origin
    assert belief.before.points == 4
    expected = MEASURED.predict(SETUP, STEP).expected
    assert abs(belief.before.predict(SETUP, STEP).expected / expected - 1) < 0.02


def test_another_version_is_believed_with_more_doubt_and_other_weights_not_at_all(
    tmp_path: Path,
) -> None:
    own, other, strange = (Calibrations(tmp_path / name) for name in ("own", "other", "strange"))
    own.save(SETUP, MEASURED)
    other.save(SETUP, MEASURED, engine="openvino-genai-1999.1/int8")
    strange.save(SETUP, MEASURED, engine="openvino-genai-1999.1/int4")
    mine, theirs = believe(SETUP, own), believe(SETUP, other)
    assert "1999.1" in theirs.origin
    spreads = [one.before.predict(SETUP, STEP).spread for one in (mine, theirs)]
    assert spreads[0] < spreads[1]
    assert "roofline" in believe(SETUP, strange).origin


def test_another_kind_of_device_has_a_calibration_of_its_own(tmp_path: Path) -> None:
    kept = Calibrations(tmp_path)
    kept.save(SETUP, MEASURED)
    elsewhere = replace(SETUP, kind=device_kind(CoreGroup(**{**_fields(), "threads": 1})))
    assert "roofline" in believe(elsewhere, kept).origin


def test_cores_that_were_measured_faster_the_second_time_are_predicted_as_before(
    tmp_path: Path,
) -> None:
    kept = Calibrations(tmp_path)
    kept.save(SETUP, MEASURED)
    twice = device_kind(
        CoreGroup(**{**_fields(), "flops": {Precision.INT8: 2.4e12}, "bandwidth": 6e10})
    )
    found = kept.find(replace(SETUP, kind=twice))
    assert found is not None
    expected = MEASURED.predict(SETUP, STEP).expected
    again = found.predict(replace(SETUP, kind=twice), STEP).expected
    assert abs(again / expected - 1) < 1e-6


def _fields() -> dict[str, object]:
    return {name: getattr(CORES, name) for name in CORES.__struct_fields__}


def test_a_file_that_this_version_cannot_read_is_as_none(tmp_path: Path) -> None:
    kept = Calibrations(tmp_path)
    kept.save(SETUP, MEASURED)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"compute"', '"computing"'))
    assert kept.find(SETUP) is None
    path.write_text("{")
    assert kept.find(SETUP) is None
