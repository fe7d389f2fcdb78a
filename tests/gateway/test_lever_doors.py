"""The doors of levers: what reaches the house, what is refused, what is audited."""

from typing import Any

import aiohttp
import pytest

from meted.domain.engine_settings import EngineSettings
from meted.live.lever_doors import RolloutWish
from meted.predict.estimate import Estimate
from meted.testing.fake_doors import ADMIN_KEY, FakeDoors

WISH: dict[str, Any] = {"name": "words", "predicted": {"expected": 0.2}}


@pytest.fixture
async def admin(url):
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with aiohttp.ClientSession(f"{url}/meted/v1/", headers=headers) as session:
        yield session


async def call(session, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    async with session.request(method, path, json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_a_wish_reaches_the_house_whole_and_is_audited(admin, doors: FakeDoors) -> None:
    body = {
        **{"name": "words", "checkpoint": "words-int4", "settings": {"chunk_tokens": 512}},
        **{"predicted": {"low": 0.1, "expected": 0.2, "high": 0.3}, "max_batch": 8, "seed": 3},
        **{"block_s": 30, "washout_s": 2, "canary_s": 20, "most_blocks": 12},
        **{"quality_unknown": True},
    }
    await call(admin, "POST", "rollouts", body)
    assert doors.wishes == [
        RolloutWish(
            name="words",
            checkpoint="words-int4",
            settings=EngineSettings(chunk_tokens=512),
            max_batch=8,
            predicted=Estimate(low=0.1, expected=0.2, high=0.3, level=0.9),
            block_s=30.0,
            washout_s=2.0,
            canary_s=20.0,
            seed=3,
            most_blocks=12,
            quality_unknown=True,
        )
    ]
    await call(admin, "DELETE", "rollouts/words")
    log = await call(admin, "GET", "audit")
    assert [row["action"] for row in log] == ["rollout.stop", "rollout.start"]
    assert log[1]["detail"]["most_blocks"] == 12


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": 3}, "name"),
        ({"predicted": None}, "predicted"),
        ({"predicted": {"expected": 2}}, "predicted.expected"),
        ({"predicted": {"expected": 0.1, "low": 0.2}}, "predicted"),
        ({"block_s": 0}, "block_s"),
        ({"most_blocks": 4}, "most_blocks"),
        ({"max_batch": 0}, "max_batch"),
        ({"settings": {"chunk": 1}}, "settings.chunk"),
        ({"settings": {"speculation": {"kind": "draft"}}}, "settings"),
        ({"quality": "unknown"}, "quality"),
    ],
)
async def test_a_wrong_wish_is_named(admin, change: dict[str, Any], param: str) -> None:
    error = (await call(admin, "POST", "rollouts", {**WISH, **change}, status=400))["error"]
    assert error["param"] == param


async def test_a_rollout_nobody_began_is_not_there(admin) -> None:
    for method in ("GET", "DELETE"):
        error = (await call(admin, method, "rollouts/nobody", status=404))["error"]
        assert error["code"] == "rollout_not_found"


async def test_fronts_are_kept_by_deployment(admin, doors: FakeDoors) -> None:
    points = [
        {"key": "int8, batch 8", "usd_per_million": 0.4, "ttft_p95_ms": 120.0, "chosen": True},
        {"key": "int4", "usd_per_million": 0.3, "loss": 0.4, "rejected": "loss is over the floor"},
    ]
    for number in (1, 2):
        await call(admin, "POST", "fronts", {"deployment": "words", "points": points[:number]})
    (front,) = await call(admin, "GET", "fronts")
    assert front["deployment"] == "words"
    assert [one["key"] for one in front["points"]] == ["int8, batch 8", "int4"]
    assert front["points"][1]["rejected"] == "loss is over the floor"
    assert front["points"][1]["ttft_p95_ms"] is None
    wrong = {"deployment": "a/b", "points": []}
    assert (await call(admin, "POST", "fronts", wrong, status=400))["error"]["param"] == (
        "deployment"
    )
