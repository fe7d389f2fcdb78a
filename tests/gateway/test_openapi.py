"""/openapi.json: every door is in it and nothing else, and the doors answer as it says."""

import json

import aiohttp
import jsonschema_rs
import pytest
from test_security import BODIES, ask, filled

from meted.gateway.app import Gateway, create_app
from meted.gateway.openapi import OPERATIONS, Operation, description
from meted.testing.fake_doors import FakeDoors

WHOLE = description()


@pytest.fixture
def app(doors: FakeDoors) -> Gateway:
    return create_app(doors, max_body_bytes=100_000)


def test_every_route_is_described_and_every_description_is_a_route(app: Gateway) -> None:
    routes = {
        (method.lower(), route.path.replace("{name:path}", "{name}"))
        for route in app.routes
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(method, path) for path, methods in WHOLE["paths"].items() for method in methods}
    assert described == routes


def test_every_reference_leads_somewhere_and_every_operation_has_its_own_name() -> None:
    text = json.dumps(WHOLE)
    for kind, known in WHOLE["components"].items():
        for name in text.split(f"#/components/{kind}/")[1:]:
            assert name.split('"')[0] in known
    names = [one["operationId"] for path in WHOLE["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)


async def test_it_needs_no_key_and_is_what_is_built(url: str) -> None:
    async with aiohttp.ClientSession(url) as client:
        async with client.get("/openapi.json") as response:
            assert response.headers["content-type"] == "application/json"
            assert await response.json() == WHOLE


def validator(schema: dict) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({**schema, "components": WHOLE["components"]})


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
async def test_a_door_answers_as_it_is_described(app: Gateway, operation: Operation) -> None:
    described = WHOLE["paths"][operation.path][operation.method.lower()]
    await ask(
        app, "POST", "/meted/v1/jobs", body=json.dumps(BODIES["POST", "/meted/v1/jobs"]).encode()
    )
    await ask(
        app,
        *("PUT", "/meted/v1/budgets/words"),
        body=json.dumps(BODIES["PUT", "/meted/v1/budgets/{name}"]).encode(),
    )
    body = BODIES.get((operation.method, operation.path))
    path = filled(operation.path)
    if operation.path.startswith("/meted/v1/jobs/"):
        path = path.replace("words", "tune")
    if operation.path == "/meted/v1/jobs" and operation.method == "POST":
        body = {**body, "name": "other"} if body else None
    sent = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        validator(schema).validate(body)
    answer = await ask(app, operation.method, path, body=sent)
    assert answer.status == 200, answer.body
    content = described["responses"]["200"]["content"]
    media = (answer.header(b"content-type") or b"").decode().partition(";")[0]
    assert media in content
    if media == "application/json":
        validator(content[media]["schema"]).validate(json.loads(answer.body))
    refused = await ask(app, operation.method, path, body=sent, key=None)
    if operation.access != "none":
        schema = described["responses"][str(refused.status)]["content"]["application/json"]
        validator(schema["schema"]).validate(json.loads(refused.body))
