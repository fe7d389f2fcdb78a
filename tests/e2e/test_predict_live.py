"""A machine is calibrated, a real house is predicted before its first step and compared with it."""

import json
import urllib.request

import pytest

from meted.testing.house import RealHouse

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"


def live(house: RealHouse) -> dict:
    (row,) = json.loads(house.meted("predict", "--live", "--json"))
    return row


def test_a_calibrated_house_knows_its_steps_before_they_come(own_house: RealHouse) -> None:
    try:
        probed = json.loads(own_house.meted("predict", "--probe", MODEL, "--json"))
    except RuntimeError as error:
        if "on a quiet machine" not in str(error):
            raise
        pytest.skip("other processes take this machine's cores, so it cannot be calibrated now")
    assert probed["points"] == 6
    assert probed["seconds"] < 120
    own_house.start()
    before = live(own_house)
    assert "calibration of openvino" in before["origin"]
    assert [phase["steps"] for phase in before["phases"]] == [0, 0]
    promised = {phase["phase"]: phase["predicted_ms"] for phase in before["phases"]}
    assert 0 < promised["decode"]["low"] < promised["decode"]["expected"]

    client = own_house.openai()
    for number in range(4):
        client.completions.create(
            model=MODEL,
            prompt=f"{number} " + " ".join(str(one * 7919 % 1000) for one in range(60)),
            max_tokens=48,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
    after = live(own_house)
    seen = sum(phase["steps"] for phase in after["phases"]) + after["disturbed_steps"]
    assert seen >= 4 * 48
    told = {phase["phase"]: phase for phase in after["phases"]}
    # The prediction from before the steps is shown beside them, not one that has seen them.
    assert after["origin"] == before["origin"]
    assert told["decode"]["live"]["measured_ms"] > 0
    assert told["decode"]["live"]["error"] < 0.5
    with urllib.request.urlopen(f"{own_house.url}/metrics", timeout=10) as metrics:
        assert f'meted_prediction_drifts_total{{model_name="{MODEL}"}}'.encode() in metrics.read()
    assert "prediction" in own_house.meted("status").lower()
    own_house.stop()
    assert "adds up" in own_house.meted("bill", "--check")


def test_a_house_that_was_never_calibrated_measures_its_cores_while_nobody_asks(
    own_house: RealHouse,
) -> None:
    own_house.start()
    own_house.wait_until("the cores are measured", lambda: "phases" in live(own_house))
    row = live(own_house)
    assert "not yet calibrated" in row["origin"]
    assert row["device_kind"].startswith("cpu-core")
    lines = own_house.meted("bill", "--by", "kind", "--json")
    assert "overhead" in lines
