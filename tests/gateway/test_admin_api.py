"""The admin doors: what the CLI and the page ask of a house."""

import aiohttp
import pytest

from meted.domain.engine_settings import EngineSettings, Speculation, SpeculationKind
from meted.testing.fake_doors import ADMIN_KEY

JOB = {"name": "tune", "base": "words", "data": "/data/book.txt", "tenant": "acme", "steps": 5}


@pytest.fixture
async def admin(url):
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with aiohttp.ClientSession(f"{url}/meted/v1/", headers=headers) as session:
        yield session


async def call(session, method, path, body=None, status=200):
    async with session.request(method, path, json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_a_tenants_key_opens_no_admin_door(client):
    for method, path in (("GET", "status"), ("POST", "shutdown"), ("DELETE", "deployments/words")):
        error = (await call(client, method, f"/meted/v1/{path}", status=403))["error"]
        assert error["code"] == "admin_key_required"


async def test_status_timeline_and_checkpoints_are_the_houses_own(admin, doors):
    assert await call(admin, "GET", "status") == doors.status_body
    assert await call(admin, "GET", "timeline") == doors.timeline_body
    assert [row["name"] for row in await call(admin, "GET", "checkpoints")] == [
        "words-1m",
        "vectors-1m",
    ]


async def test_deployments_come_and_go(admin):
    made = await call(admin, "POST", "deployments", {"name": "tuned", "replicas": 2})
    assert made == {"name": "tuned", "checkpoint": "tuned", "path": None, "replicas": 2}
    rows = await call(admin, "GET", "deployments")
    assert [row["name"] for row in rows] == ["words", "vectors", "tuned"]
    assert rows[0]["running"] == 0
    await call(admin, "DELETE", "deployments/tuned")
    error = (await call(admin, "DELETE", "deployments/tuned", status=404))["error"]
    assert error["code"] == "deployment_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "replicas": 0}, "replicas"),
        ({"name": "x", "replicas": "two"}, "replicas"),
        ({"name": "x", "replicsa": 2}, "replicsa"),
        ({"name": "x", "settings": {"chunk": 2}}, "settings.chunk"),
        ({"name": "x", "settings": {"cache": "int2"}}, "settings.cache"),
        ({"name": "x", "settings": {"speculation": {"kind": "draft"}}}, "settings"),
    ],
)
async def test_a_wrong_deployment_is_named(admin, body, param):
    error = (await call(admin, "POST", "deployments", body, status=400))["error"]
    assert error["param"] == param


async def test_engine_settings_reach_the_house(admin, doors):
    settings = {"engine": "llamacpp", "speculation": {"kind": "prompt_lookup", "tokens": 3}}
    await call(admin, "POST", "deployments", {"name": "quick", "settings": settings})
    lookup = Speculation(kind=SpeculationKind.PROMPT_LOOKUP, tokens=3)
    assert doors.settings["quick"] == EngineSettings(engine="llamacpp", speculation=lookup)


async def test_jobs_are_queued_shown_and_controlled(admin, doors):
    assert (await call(admin, "POST", "jobs", JOB))["status"] == "queued"
    assert doors.specs[0].steps == 5
    assert (await call(admin, "POST", "jobs", JOB, status=409))["error"]["param"] == "name"
    assert [job["name"] for job in await call(admin, "GET", "jobs")] == ["tune"]
    assert (await call(admin, "GET", "jobs/tune"))["base"] == "words"
    for verb in ("pause", "resume", "cancel"):
        assert (await call(admin, "POST", f"jobs/tune/{verb}"))["verb"] == verb
    await call(admin, "POST", "jobs/tune/explode", status=404)
    await call(admin, "GET", "jobs/nope", status=404)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": "five"}, "steps"),
        ({"optimizer": "magic"}, "optimizer"),
        ({"base": None}, "base"),
    ],
)
async def test_a_wrong_training_spec_is_named(admin, change, param):
    error = (await call(admin, "POST", "jobs", JOB | change, status=400))["error"]
    assert error["param"] == param


async def test_a_body_that_is_no_object_is_refused(admin):
    assert "error" in await call(admin, "POST", "jobs", [1], status=400)
    async with admin.post("jobs", data=b"{") as response:
        assert response.status == 400


async def test_shutdown_is_asked_of_the_house(admin, doors):
    assert (await call(admin, "POST", "shutdown"))["status"] == "stopping"
    assert doors.stopping
