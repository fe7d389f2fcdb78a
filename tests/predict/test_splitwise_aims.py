"""The predictor against Splitwise's measurements: the errors that docs/predict/steps.md states."""

import statistics
import sys
from pathlib import Path

import pytest

from meted.testing.public_data import NoDataError, data_folder

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import splitwise

pytestmark = pytest.mark.data
SEEDS = range(5)


@pytest.fixture(scope="module", autouse=True)
def data() -> None:
    try:
        data_folder("splitwise")
    except NoDataError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def results(data: None) -> dict[tuple[str, str, str], splitwise.Result]:
    return {(one.model, one.gpu, one.way): one for one in splitwise.measure(SEEDS)}


def mean(scores: tuple[splitwise.Score, ...], name: str) -> float:
    return statistics.mean(getattr(score, name) for score in scores)


@pytest.mark.parametrize("model", splitwise.MODELS)
@pytest.mark.parametrize("gpu", splitwise.GPUS)
@pytest.mark.parametrize("way", ["6 points", "6 points that it chose"])
def test_six_points_predict_the_rest(
    results: dict[tuple[str, str, str], splitwise.Result], model: str, gpu: str, way: str
) -> None:
    one = results[model, gpu, way]
    # Which points are chosen turns on last digits, which processors round differently: the same
    # code came to 9.9 % on one kind and 12.7 % on another.
    assert mean(one.prefill, "mape") <= (12 if way == "6 points" else 13.5)
    assert mean(one.decode, "mape") <= 5
    assert mean(one.prefill, "coverage") >= 80
    assert mean(one.decode, "coverage") >= 80


@pytest.mark.parametrize("model", splitwise.MODELS)
def test_a_calibration_carries_to_the_next_gpu_with_two_points(
    results: dict[tuple[str, str, str], splitwise.Result], model: str
) -> None:
    one = results[model, "h100-80gb", "2 points after A100"]
    assert mean(one.prefill, "mape") <= 12
    assert mean(one.decode, "mape") <= 12
    assert mean(one.prefill, "coverage") >= 80
    assert mean(one.decode, "coverage") >= 80


@pytest.mark.parametrize("model", splitwise.MODELS)
@pytest.mark.parametrize("gpu", splitwise.GPUS)
def test_intervals_are_honest_before_anything_is_measured(
    results: dict[tuple[str, str, str], splitwise.Result], model: str, gpu: str
) -> None:
    one = results[model, gpu, "uncalibrated"]
    assert mean(one.prefill, "coverage") >= 80
    assert mean(one.decode, "coverage") >= 80


def test_power_is_predicted_without_being_measured() -> None:
    count, error = splitwise.power_error()
    assert count >= 40
    assert error <= 15
