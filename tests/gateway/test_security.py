"""What an attacker tries at the doors: roles, headers, bodies, numbers, names, secrets in logs."""

import asyncio
import contextlib
import io
import json
import logging
from typing import Any

import aiohttp
import pytest

from meted.domain.units import BudgetName
from meted.gateway import body_reader
from meted.gateway.app import Gateway, create_app
from meted.gateway.headers import header_list, header_value, header_word
from meted.gateway.openapi import OPERATIONS, Operation
from meted.gateway.replies import stopped_json
from meted.live.doors import HouseError
from meted.testing.fake_doors import (
    ADMIN_KEY,
    OTHER_KEY,
    REVOKED_KEY,
    TENANT_KEY,
    FakeDoors,
    Manners,
)

CHAT = "/v1/chat/completions"
HI: dict[str, Any] = {"model": "words", "messages": [{"role": "user", "content": "hi there"}]}
TEXT = {"model": "words", "prompt": "hi there"}
VECTORS = {"model": "vectors", "input": "hi there"}
JOB = {"name": "tune", "base": "words", "data": "/data/book.txt", "tenant": "acme", "steps": 5}
BUDGET = {"tenant": "acme", "period": "month", "limit_usd": "12.50"}
OWNED = {
    **{"kind": "owned", "purchase_usd": "2000", "lifetime_hours": 35_040, "milliwatts": 300_000},
    **{"usd_per_kwh": "0.30", "pue_permille": 1000, "utilisation_permille": 1000},
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", CHAT): HI,
    ("POST", "/v1/completions"): TEXT,
    ("POST", "/v1/embeddings"): VECTORS,
    ("POST", "/meted/v1/deployments"): {"name": "tuned", "replicas": 1},
    ("POST", "/meted/v1/jobs"): JOB,
    ("POST", "/meted/v1/rollouts"): {"name": "words", "predicted": {"expected": 0.1}},
    ("POST", "/meted/v1/fronts"): {"deployment": "words", "points": [{"key": "a"}]},
    ("PUT", "/meted/v1/budgets/{name}"): BUDGET | {"alerts": [50]},
    ("POST", "/meted/v1/keys"): {"tenant": "acme", "requests_per_minute": 5},
    ("POST", "/meted/v1/prices"): {"device_kind": "cpu-core", "basis": OWNED},
    ("POST", "/meted/v1/rates"): {"rates": {"charge": "cost", "markup_permille": 0}},
}


class Answer:
    """What an application answered to one request in this process."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)


async def forever() -> Any:
    await asyncio.Event().wait()


async def ask(
    app: Gateway,
    method: str,
    path: str,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = b"",
    key: str | None = ADMIN_KEY,
) -> Answer:
    """Ask without a server in between, which would refuse much of what is tried here."""
    sent = list(headers or [])
    if key is not None:
        sent.append((b"authorization", b"Bearer " + key.encode()))
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"},
        **{"method": method, "path": path, "raw_path": path.encode(), "root_path": ""},
        **{"query_string": b"", "headers": sent, "client": ("127.0.0.1", 1), "server": None},
    }
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(0)
        return {"type": "http.disconnect"} if answer.body else await forever()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = list(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)  # type: ignore[arg-type]
    return answer


@pytest.fixture
def app(doors: FakeDoors) -> Gateway:
    return create_app(doors, max_body_bytes=100_000)


def filled(path: str) -> str:
    return path.replace("{name}", "words").replace("{id}", "key-acme")


# Roles.


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
@pytest.mark.parametrize(
    ("key", "role"),
    [
        (None, "nobody"),
        ("mt-never-made-0123456789", "nobody"),
        (REVOKED_KEY, "nobody"),
        (TENANT_KEY, "tenant"),
        (OTHER_KEY, "tenant"),
        (ADMIN_KEY, "admin"),
    ],
)
async def test_every_door_opens_for_its_roles_only(
    app: Gateway, doors: FakeDoors, operation: Operation, key: str | None, role: str
) -> None:
    body = BODIES.get((operation.method, operation.path))
    before = doors.money.version()
    answer = await ask(
        app,
        operation.method,
        filled(operation.path),
        body=b"" if body is None else json.dumps(body).encode(),
        key=key,
    )
    if operation.access == "none":
        assert answer.status == 200
    elif role == "nobody":
        assert answer.status == 401
    elif operation.access == "admin" and role == "tenant":
        assert answer.status == 403
    else:
        assert answer.status in (200, 404)
    if answer.status in (401, 403):
        assert doors.money.version() == before
        assert doors.tickets == doors.specs == doors.wishes == doors.money.entries == []
        assert doors.front_bodies == {}
        assert not doors.stopping
        assert b"house" not in answer.body.replace(b"house that", b"")


async def test_no_route_is_outside_the_matrix(app: Gateway) -> None:
    routes = {(method, route.path) for route in app.routes for method in route.methods or ()}
    known = {(one.method, one.path) for one in OPERATIONS}
    assert {(m, p.replace("{name:path}", "{name}")) for m, p in routes if m != "HEAD"} == known


@pytest.mark.parametrize("path", ["keys", "budgets", "bill"])
async def test_a_tenant_never_sees_another_however_it_asks(
    app: Gateway, doors: FakeDoors, path: str
) -> None:
    await ask(app, "POST", CHAT, body=json.dumps(HI).encode(), key=OTHER_KEY)
    body = json.dumps(BUDGET | {"tenant": "umbrella"}).encode()
    await ask(app, "PUT", "/meted/v1/budgets/theirs", body=body)
    headers = [(b"x-meted-tenant", b"umbrella"), (b"authorization", b"Bearer " + b"x")]
    answer = await ask(app, "GET", f"/meted/v1/{path}", headers=headers[:1], key=TENANT_KEY)
    assert answer.status == 200
    for word in (b"umbrella", b"theirs", b"house", b"idle"):
        assert word not in answer.body


@pytest.mark.parametrize(
    "authorization",
    [
        b"bearer " + TENANT_KEY.encode() + b"\x00",
        b"Bearer " + TENANT_KEY[:-1].encode(),
        b"Bearer " + TENANT_KEY.upper().encode(),
        b"Bearer " + TENANT_KEY.encode() + b", Bearer x",
        b"Bearer \xff\xfe",
        b"Bearer key-acme",
        b"Bearer mt-acme",
        b"Token " + TENANT_KEY.encode(),
        b"Bearer " + b"x" * 100_000,
    ],
)
async def test_only_the_whole_secret_opens(app: Gateway, authorization: bytes) -> None:
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/meted/v1/status")):
        headers = [(b"authorization", authorization)]
        answer = await ask(app, method, path, headers=headers, key=None)
        assert answer.status == 401
        assert len(answer.body) < 500


# Headers.

INJECTED = ("a\r\nx-evil: 1", "a\nb", "a\0b", "\u202eabc", "日本", "a;b=c,d", "\ud800", "🚀 x", "é")


def printable(headers: list[tuple[bytes, bytes]]) -> bool:
    return all(0x20 <= byte <= 0x7E for pair in headers for part in pair for byte in part)


@pytest.mark.parametrize("name", INJECTED)
def test_no_name_breaks_out_of_a_header(name: str) -> None:
    assert printable([(b"x", header_value(name)), (b"x", header_word(name))])
    assert not set(header_word(name)) & set(b" ;,=\"'")
    assert printable(header_list({"x-meted-budget": name}))


def test_a_wrong_header_name_is_our_own_mistake() -> None:
    for name in ("a b", "a:b", "a\r\nb", ""):
        with pytest.raises(ValueError, match="not the name of a header"):
            header_list({name: "x"})


@pytest.mark.parametrize("name", INJECTED)
async def test_names_of_budgets_and_models_reach_no_header_unescaped(
    app: Gateway, doors: FakeDoors, name: str
) -> None:
    refused = HouseError(
        "no money", status=402, type="x", headers={"x-meted-budget": name}, retry_after_s=1
    )

    def refuse(submission: Any) -> Any:
        raise refused

    doors.submit = refuse  # type: ignore[method-assign]
    answer = await ask(app, "POST", CHAT, body=json.dumps(HI).encode(), key=TENANT_KEY)
    assert answer.status == 402
    assert printable(answer.headers)
    assert answer.header(b"x-evil") is None
    model = json.dumps(HI | {"model": name}, ensure_ascii="\ud800" in name).encode()
    answer = await ask(app, "POST", CHAT, body=model, key=TENANT_KEY)
    assert printable(answer.headers)


@pytest.mark.parametrize("echo", [b"a\r\nx-evil: 1", b"a\nb", b"\0", b"x" * 257, b"\x7f"])
async def test_a_request_id_that_could_break_out_does_not_come_back(
    app: Gateway, echo: bytes
) -> None:
    for method, path in (("POST", CHAT), ("GET", "/health"), ("GET", "/nothing")):
        answer = await ask(app, method, path, headers=[(b"x-request-id", echo)])
        assert answer.header(b"x-request-id") is None
        assert answer.header(b"x-meted-request-id") is not None


def test_a_budgets_name_stays_json_in_an_answer() -> None:
    members = stopped_json(BudgetName('a"}],"x":"\r\n'))
    assert json.loads(b"{" + members[1:] + b"}")["meted_budget"] == 'a"}],"x":"\r\n'


# Bodies.


@pytest.mark.parametrize(
    ("lengths", "status"),
    [
        ((b"-1",), 400),
        ((b"+5",), 400),
        ((b"five",), 400),
        ((b"",), 400),
        ((b"1e3",), 400),
        ((b"0x10",), 400),
        ((b"5, 5",), 400),
        ((b"5", b"6"), 400),
        (("٣".encode(),), 400),
        ((b"100001",), 413),
        ((b"9" * 5_000,), 413),
        ((b"65", b"65"), 200),
    ],
)
async def test_a_length_is_one_number_or_refused(
    app: Gateway, lengths: tuple[bytes, ...], status: int
) -> None:
    headers = [(b"content-length", length) for length in lengths]
    answer = await ask(app, "POST", CHAT, headers=headers, body=json.dumps(HI).encode())
    assert answer.status == status
    body = json.dumps({"tenant": "acme"}).encode()
    answer = await ask(app, "POST", "/meted/v1/keys", headers=headers, body=body)
    assert answer.status == status


async def raw(url: str, *parts: bytes, pause_s: float = 0) -> bytes:
    """Send these bytes, as far as the server listens, and read until it closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def write() -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writing.cancel()
        writer.close()


def head(path: str, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {ADMIN_KEY}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    "length",
    ["content-length: -5", "content-length: x", "content-length: 5\r\ncontent-length: 6"],
)
@pytest.mark.parametrize("path", [CHAT, "/meted/v1/keys"])
async def test_the_server_refuses_lengths_that_smuggle(url: str, path: str, length: str) -> None:
    answer = await raw(url, head(path, length) + b"{}{}{}")
    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CHAT), ("POST", "/meted/v1/keys"), ("PUT", "/meted/v1/budgets/b")],
)
@pytest.mark.parametrize("start", [b"", b'{"model"'])
async def test_a_slow_body_is_given_up(
    serve: Any,
    doors: FakeDoors,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    start: bytes,
) -> None:
    monkeypatch.setattr(body_reader, "LINGER_S", 0.3)
    async with serve(create_app(doors, max_body_bytes=1000, body_timeout_s=0.05)) as url:
        answer = await raw(url, head(path, "content-length: 500", method=method) + start)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in answer.lower()
        assert b"server.body_timeout_s" in answer
        drip = [b"1\r\n{\r\n"] * 10
        chunked = head(path, "transfer-encoding: chunked", method=method)
        answer = await raw(url, chunked, *drip, pause_s=0.01)
        assert answer.startswith(b"HTTP/1.1 408")
    assert doors.tickets == []


async def test_a_body_without_end_is_cut_off_with_its_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_reader, "LINGER_BYTES", 100_000)
    for path in (CHAT, "/meted/v1/keys"):
        chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        chunks = [chunk] * 1_000
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            answer = await raw(url, head(path, "transfer-encoding: chunked"), *chunks, pause_s=0.01)
            assert answer.startswith(b"HTTP/1.1 413")
            assert b"connection: close" in answer.lower()
        assert asyncio.get_running_loop().time() - began < body_reader.LINGER_S + 1


@pytest.mark.parametrize("key", [TENANT_KEY, "mt-unknown"])
@pytest.mark.parametrize("path", [CHAT, "/meted/v1/keys"])
async def test_a_client_with_a_large_body_reads_its_refusal_rather_than_a_reset(
    url: str, path: str, key: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers) as client:
        async with client.post(path, data=io.BytesIO(b" " * 20_000_000)) as response:
            assert response.status in (401, 403, 413)
            assert "error" in await response.json()


async def test_who_is_not_let_in_is_not_listened_to(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_reader, "LINGER_S", 0.05)
    start = head(CHAT, "content-length: 90000").replace(ADMIN_KEY.encode(), b"mt-x")
    answer = await raw(url, start)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer.lower()


# Numbers.

NUMBERS = (
    *("9223372036854775808", "18446744073709551616", "-9223372036854775809", "1" + "0" * 400),
    *("-1" + "0" * 400, "1" + "0" * 5000, "1e400", "-1e400", "1e-400", "NaN", "Infinity"),
    *("-Infinity", "-1", "-0", "-0.0", "0", "1.5", "true", '"1"', "[]", "{}", "null"),
)


def numeric_fields() -> list[tuple[str, str, str]]:
    """Every numeric member of every body: the door, the path to the member."""
    found: list[tuple[str, str, str]] = []
    for (method, path), body in BODIES.items():
        found += [
            (method, path, name) for name, value in body.items() if isinstance(value, int | float)
        ]
    sampling = ("max_tokens", "max_completion_tokens", "min_tokens", "temperature", "top_p")
    sampling += ("top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty")
    sampling += ("n", "best_of", "logprobs", "logit_bias", "unknown")
    found += [("POST", path, name) for path in (CHAT, "/v1/completions") for name in sampling]
    found.append(("POST", "/v1/embeddings", "dimensions"))
    training = ("epochs", "learning_rate", "sequence_tokens", "micro_batch", "batch_tokens", "seed")
    training += ("lora_rank", "warmup", "weight_decay", "held_out", "eval_every")
    found += [("POST", "/meted/v1/jobs", name) for name in training]
    found += [("POST", "/meted/v1/keys", name) for name in ("tokens_per_minute", "concurrent")]
    basis = [name for name, value in OWNED.items() if isinstance(value, int)]
    found += [("POST", "/meted/v1/prices", f"basis.{name}") for name in basis]
    found.append(("POST", "/meted/v1/rates", "rates.markup_permille"))
    return found


@pytest.mark.parametrize(("method", "path", "field"), numeric_fields())
async def test_no_number_makes_a_door_fail(
    app: Gateway, doors: FakeDoors, method: str, path: str, field: str
) -> None:
    for number in NUMBERS:
        body = json.loads(json.dumps(BODIES[method, path]))
        *outer, last = field.split(".")
        inner = body[outer[0]] if outer else body
        inner[last] = "NUMBER"
        raw_body = json.dumps(body).replace('"NUMBER"', number).encode()
        answer = await ask(app, method, filled(path), body=raw_body)
        assert answer.status in (200, 400, 409), (number, answer.body)
        assert len(answer.body) < 3_000
        if number in ("NaN", "Infinity", "-Infinity"):
            assert answer.status == 400
    for ticket in doors.tickets:
        limit = ticket.submission.sampling.max_tokens
        assert limit is None or 1 <= limit < 2**31


@pytest.mark.parametrize(
    "broken",
    [
        b'{"model": 7, "m\xffessages": 1}',
        b'{"model": 7, "a": "\xed\xa0\x80"}',
        b'{"model": "words", "temperature": 1' + b"0" * 400 + b"}",
        b'{"model": [' * 900 + b"1" + b"]}" * 900,
    ],
)
async def test_a_wrong_field_in_a_body_that_cannot_be_shown_is_still_a_400(
    app: Gateway, broken: bytes
) -> None:
    for path in (CHAT, "/v1/completions", "/v1/embeddings"):
        answer = await ask(app, "POST", path, body=broken)
        assert answer.status == 400
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"


async def test_a_huge_max_tokens_is_refused_by_name(app: Gateway) -> None:
    for huge in (2**31, 2**63, 10**400):
        body = json.dumps(HI | {"max_tokens": huge}).encode()
        answer = await ask(app, "POST", CHAT, body=body, key=TENANT_KEY)
        assert answer.status == 400
        assert json.loads(answer.body)["error"]["param"] == "max_tokens"


# Names and nests.

NAMES = (
    *("\u202eemca", "ac\u200bme", "a\0b", "🚀", "👩\u200d💻", "é", "e\u0301", "x" * 10_000),
    *("../../etc/passwd", "..", "/", "a/../b", "%2e%2e%2f", "C:\\x", "", " ", "a\r\nb", "\uffff"),
    *("'; DROP TABLE keys; --", "${jndi:ldap://x}", "{{7*7}}", "\x1b[31m", "con", "-rf"),
)


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_makes_a_door_fail(app: Gateway, name: str) -> None:
    for (method, path), body in BODIES.items():
        for field, value in body.items():
            if isinstance(value, str):
                sent = json.dumps(body | {field: name}).encode()
                answer = await ask(app, method, filled(path), body=sent)
                assert answer.status in (200, 400, 404, 409), (path, field, answer.body)
                assert len(answer.body) < 25_000
    for operation in OPERATIONS:
        if "{" in operation.path:
            path = operation.path.replace("{name}", name).replace("{id}", name)
            body = BODIES.get((operation.method, operation.path))
            sent = b"" if body is None else json.dumps(body).encode()
            answer = await ask(app, operation.method, path, body=sent)
            assert answer.status in (200, 400, 404, 405), (path, answer.body)
            assert printable(answer.headers)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "a/b", "a\\b", "a\0b", "\u202ex", "x" * 200]
)
async def test_a_name_that_would_leave_its_folder_is_refused(
    app: Gateway, doors: FakeDoors, name: str
) -> None:
    for path, body in (
        ("/meted/v1/deployments", {"name": name}),
        ("/meted/v1/jobs", JOB | {"name": name}),
        ("/meted/v1/keys", {"tenant": name}),
        ("/meted/v1/keys", {"tenant": "acme", "project": name}),
    ):
        answer = await ask(app, "POST", path, body=json.dumps(body).encode())
        assert answer.status == 400, path
    assert doors.money.entries == []


@pytest.mark.parametrize("raw_body", [b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\udc00x"'])
async def test_half_a_surrogate_is_no_text(app: Gateway, raw_body: bytes) -> None:
    for (method, path), body in BODIES.items():
        field = next(name for name, value in body.items() if isinstance(value, str | dict))
        sent = json.dumps(body | {field: "NAME"}).encode().replace(b'"NAME"', raw_body)
        answer = await ask(app, method, filled(path), body=sent)
        assert answer.status == 400, path


@pytest.mark.parametrize("depth", [50, 900, 20_000])
@pytest.mark.parametrize(("opens", "closes"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_no_nest_makes_a_door_fail(
    app: Gateway, depth: int, opens: bytes, closes: bytes
) -> None:
    if len(opens) * depth > 90_000:
        depth = 15_000
    nest = opens * depth + (b"1" if opens != b"[" else b"") + closes * min(depth, 500)
    whole = opens * depth + (b"1" if opens != b"[" else b"") + closes * depth
    for value in (nest, whole):
        if len(value) > 99_000:
            continue
        for (method, path), body in BODIES.items():
            for field in (*body, "metadata", "logit_bias", "response_format", "tools"):
                sent = json.dumps(body | {field: "NEST"}).encode().replace(b'"NEST"', value, 1)
                answer = await ask(app, method, filled(path), body=sent)
                assert answer.status in (200, 400, 413), (path, field, answer.body)
            assert (await ask(app, method, filled(path), body=value)).status in (400, 413)


# Secrets.


async def test_no_secret_is_in_logs_answers_or_the_audit_log(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    doors = FakeDoors()
    said: list[str] = []
    secrets = [TENANT_KEY, OTHER_KEY, ADMIN_KEY, REVOKED_KEY]
    async with serve(create_app(doors, max_body_bytes=5_000)) as url:
        for key in (*secrets, "mt-wrong-0123456789abcdef"):
            headers = {"authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession(url, headers=headers) as client:
                for operation in OPERATIONS:
                    if operation.path == "/meted/v1/shutdown":
                        continue
                    body = BODIES.get((operation.method, operation.path), {})
                    for sent in (body, body | {"max_tokens": key}, [key], "x" * 6_000):
                        async with client.request(
                            operation.method, filled(operation.path), json=sent
                        ) as response:
                            text = await response.text()
                            if response.status == 200 and '"secret":"' in text:
                                secrets.append(json.loads(text)["secret"])
                                continue
                            if operation.body is None or sent in (body, "x" * 6_000):
                                said.append(text)
                                said.append(str(response.headers))
        doors.submit = lambda submission: 1 / 0  # type: ignore[assignment, method-assign]
        doors.manners = Manners(fails_after=1)
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            async with client.post(CHAT, json=HI) as response:
                assert response.status == 500
                said.append(await response.text())
    assert "failed in the gateway" in caplog.text
    log = str(doors.money.entries)
    assert "key.create" in log
    assert len(secrets) > 5
    for secret in (*secrets, "mt-wrong-0123456789abcdef"):
        tail = secret[8:]
        assert tail not in caplog.text
        assert tail not in log
        assert not any(tail in text for text in said)
