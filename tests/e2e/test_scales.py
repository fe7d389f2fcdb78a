"""A deployment that nobody uses is unloaded; a request loads it again and is answered."""

from collections.abc import Iterator
from typing import Any

import pytest

from meted.live.books import check
from meted.testing.house import RealHouse, shared_checkpoints

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"


@pytest.fixture
def scaling_house() -> Iterator[RealHouse]:
    made = RealHouse(
        config={
            "policy": {"name": "demand", "interval_s": 0.2, "parameters": {"keep_warm_s": 8}},
            "deployments": [{"name": MODEL, "checkpoint": MODEL, "least": 0, "most": 2}],
            "books": {"interval_s": 0.5},
        },
        cache=shared_checkpoints(),
    )
    with made as running:
        yield running


def deployment(house: RealHouse) -> dict[str, Any]:
    (one,) = house.admin("status")["deployments"]
    return one


def test_a_request_starts_a_replica_gets_its_answer_and_the_replica_goes_again(
    scaling_house: RealHouse,
) -> None:
    house = scaling_house
    assert deployment(house)["replicas"] == []
    assert "unloaded (0 to 2)" in house.meted("status")
    client = house.openai()
    for _ in range(2):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Which city is the capital of France?"}],
            temperature=0,
            max_tokens=20,
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert [one["status"] for one in deployment(house)["replicas"]] == ["ready"]
        house.wait_until("the replica is unloaded", lambda: deployment(house)["replicas"] == [])
    decisions = house.admin("status")["decisions"]
    assert any("kept warm for 8 s; unloaded" in one["reason"] for one in decisions)
    house.stop()
    assert check(house.home / "books.sqlite").balanced
