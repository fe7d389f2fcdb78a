"""A rollout on a real model: clients see one name and no error, and the books balance."""

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from meted.live.books import check
from meted.testing.house import RealHouse, shared_checkpoints

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"
PROMPT = "Write one sentence about the sea, the wind and a small boat. " * 12
WISH: dict[str, Any] = {
    "name": MODEL,
    "settings": {"chunk_tokens": 64},
    "predicted": {"expected": 0.02},
    **{"block_s": 3.0, "washout_s": 0.5, "canary_s": 2.0, "most_blocks": 6, "seed": 1},
}


@pytest.fixture
def lever_house() -> Iterator[RealHouse]:
    made = RealHouse(
        config={
            "deployments": [{"name": MODEL, "checkpoint": MODEL}],
            "books": {"interval_s": 0.5},
        },
        cache=shared_checkpoints(),
    )
    with made as running:
        yield running


def test_a_rollout_of_a_real_engine_ends_with_a_receipt(lever_house: RealHouse) -> None:
    house = lever_house
    over, errors, answers = threading.Event(), list[str](), list[str]()

    def clients() -> None:
        client = house.openai()
        number = 0
        while not over.is_set():
            number += 1
            try:
                answer = client.completions.create(
                    model=MODEL, prompt=f"{number} {PROMPT}", max_tokens=4, temperature=0
                )
                answers.append(answer.model)
            except openai.OpenAIError as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=clients) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        name = house.admin("rollouts", "POST", WISH)["id"]
        house.wait_until(
            "the rollout ends",
            lambda: house.admin(f"rollouts/{name}")["phase"] in ("promoted", "returned"),
            patience_s=240,
        )
        found = house.admin(f"rollouts/{name}")
        served = house.admin("status")["deployments"]
        house.wait_until(
            "one version is left", lambda: len(house.admin("status")["deployments"]) == 1
        )
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert set(answers) == {MODEL}
    assert {one["public"] for one in served} == {MODEL}
    assert found["quality"]["reason"].startswith("the weights are the same")
    # On a busy machine the SLO may end it early; what it measured until then is there.
    assert found["status"] in ("verified", "not_there", "slipped_slo"), found
    assert all(block["cost"] > 0 for block in found["blocks"])
    if found["status"] != "slipped_slo":
        assert found["measured"]["low"] < found["measured"]["high"]
    (left,) = house.admin("status")["deployments"]
    assert left["name"] == found["serving"]
    house.stop()
    report = check(house.home / "books.sqlite")
    assert report.balanced, report.fault
