"""The replay against a real engine's logs: the errors that docs/predict/queueing.md states."""

import sys
from pathlib import Path

import pytest

from meted.testing.public_data import NoDataError, data_folder

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import vllm_logs

pytestmark = pytest.mark.data


@pytest.fixture(scope="module", autouse=True)
def data() -> None:
    try:
        data_folder("llmservingsim")
    except NoDataError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("machine", vllm_logs.MACHINES)
def test_sixty_requests_predict_the_rest_of_the_log(machine: str) -> None:
    found = vllm_logs.predict_rest(machine, known=60)["errors"]
    assert abs(found["tpot"]["mean"]) <= 0.05
    assert abs(found["ttft"]["mean"]) <= 0.15
    assert abs(found["e2e"]["p99"]) <= 0.10
