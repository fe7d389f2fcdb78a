"""The doors on the wire: headers, errors, chunks and the end of connections."""

import asyncio
import json

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.request import Message, Outcome
from meted.gateway.app import create_app
from meted.live.dollars import usd
from meted.testing.fake_doors import TENANT_KEY, FakeDoors, Manners

MAX_BODY_BYTES = 100_000
CHAT = "/v1/chat/completions"
HI = {"model": "words", "messages": [{"role": "user", "content": "hi there"}]}


async def refused(client, body, *, path=CHAT, status=400):
    """The error object that a body is refused with."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(path, data=data) as response:
        assert response.status == status, await response.text()
        assert response.headers["x-meted-request-id"].startswith("req-")
        error = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def events(response) -> list:
    """The server-sent events of a response; the end mark as a string."""
    text = (await response.read()).decode()
    assert text.endswith("data: [DONE]\n\n")
    rows = [block.removeprefix("data: ") for block in text.strip().split("\n\n")]
    return [row if row == "[DONE]" else json.loads(row) for row in rows]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_completion_tokens", -1),
        ("n", 2),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", 5),
        ("stop", ""),
        ("presence_penalty", -2.5),
        ("top_k", -2),
        ("seed", "x"),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("messages", []),
        ("messages", "hello"),
        ("model", 7),
        ("logprobs", True),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
    ],
)
async def test_a_wrong_field_is_named(client, field, value):
    error = await refused(client, HI | {field: value})
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert field in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "king", "content": "x"}, "messages[0].role"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0].type",
        ),
    ],
)
async def test_a_wrong_message_is_named(client, message, param):
    assert (await refused(client, HI | {"messages": [message]}))["param"] == param


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2, 3], [[1, 2]], "", [], 5])
async def test_only_one_prompt_of_text_is_taken(client, prompt):
    body = {"model": "words", "prompt": prompt}
    assert (await refused(client, body, path="/v1/completions"))["param"] == "prompt"


async def test_wrong_embeddings_bodies_are_named(client):
    for field, value in (("input", []), ("input", [1]), ("input", ""), ("encoding_format", "f")):
        body = {"model": "vectors", "input": "x", field: value}
        assert (await refused(client, body, path="/v1/embeddings"))["param"] == field
    body = {"model": "vectors", "input": "x", "dimensions": 3}
    assert (await refused(client, body, path="/v1/embeddings"))["param"] == "dimensions"
    async with client.post("/v1/embeddings", json=body | {"dimensions": 4}) as response:
        assert response.status == 200
    error = await refused(client, body | {"model": "words"}, path="/v1/embeddings")
    assert error["param"] == "model"


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": nope}', b'{"model": "\xff"}', b"[1]"])
async def test_a_body_that_is_not_json_is_refused(client, body):
    assert (await refused(client, body))["type"] == "invalid_request_error"


async def test_bad_json_says_where(client):
    assert "byte 9" in (await refused(client, b'{"model" "x"}'))["message"]


async def test_deep_nesting_is_refused(client):
    body = b'{"model":"words","messages":[],"metadata":' + b"[" * 40_000
    assert (await refused(client, body))["type"] == "invalid_request_error"


async def test_unknown_fields_are_accepted(client):
    extra = {"user": "u", "priority": 1, "whatever": {"x": [1]}, "metadata": None}
    async with client.post(CHAT, json=HI | extra) as response:
        assert response.status == 200


async def test_every_sampling_field_reaches_the_engine(client, doors):
    wish = {
        "max_tokens": 50,
        "max_completion_tokens": 9,
        "min_tokens": 2,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 20,
        "seed": -1,
        "stop": "END",
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
    }
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "assistant", "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    async with client.post(CHAT, json=HI | wish | {"messages": messages}) as response:
        assert response.status == 200
    submission = doors.tickets[0].submission
    sampling = submission.sampling
    assert (sampling.max_tokens, sampling.min_tokens, sampling.temperature) == (9, 2, 0.0)
    assert (sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 20, 2**63 - 1)
    assert (sampling.stop, sampling.ignore_eos) == (("END",), True)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1.0, -1.0)
    assert sampling.repetition_penalty == 1.1
    assert submission.prompt.messages == (
        Message(role="system", content="be brief"),
        Message(role="assistant", content=""),
        Message(role="user", content="ab"),
    )
    assert submission.payer.tenant == "acme"


async def test_completions_default_to_sixteen_tokens_and_chats_to_the_context(client, doors):
    async with client.post("/v1/completions", json={"model": "words", "prompt": "x"}):
        pass
    async with client.post(CHAT, json=HI):
        pass
    assert [ticket.submission.sampling.max_tokens for ticket in doors.tickets] == [16, None]


async def test_the_cost_is_exact_in_header_and_usage(client):
    async with client.post(CHAT, json=HI) as response:
        body = await response.json()
        assert response.headers["x-meted-cost-usd"] == "0.000000028"
        assert body["usage"]["meted_cost_usd"] == "0.000000028"
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    async with client.post(CHAT, json=HI | stream) as response:
        rows = await events(response)
    assert rows[-2]["usage"]["meted_cost_usd"] == "0.000000028"


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_a_cost_is_written_without_rounding(nanos):
    whole, _, fraction = usd(nanos).partition(".")
    assert int(whole + fraction) == nanos
    assert len(fraction) == 9


async def test_the_clients_request_id_comes_back(client):
    headers = {"x-request-id": "mine-1"}
    for path in ("/health", "/nothing", "/v1/models"):
        async with client.get(path, headers=headers) as response:
            assert response.headers["x-request-id"] == "mine-1"
            assert response.headers["x-meted-request-id"].startswith("req-")
    async with client.post(CHAT, json=HI, headers=headers) as response:
        assert response.headers["x-request-id"] == "mine-1"


async def test_waiting_words_go_out_as_one_chunk(client):
    async with client.post(CHAT, json=HI | {"stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        rows = await events(response)
    deltas = [row["choices"][0]["delta"] for row in rows[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "hi there"}, {}]
    assert all("usage" not in row for row in rows[:-1])


async def test_usage_in_each_chunk_when_asked(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    wish = HI | {"stream": True, "stream_options": options}
    async with client.post(CHAT, json=wish) as response:
        rows = await events(response)
    assert [row["usage"]["total_tokens"] for row in rows[:-1]] == [2, 4, 4, 4]


async def test_an_empty_answer_is_still_a_whole_stream(client):
    wish = HI | {"stream": True, "stop": "hi"}
    async with client.post(CHAT, json=wish) as response:
        rows = await events(response)
    assert rows[0]["choices"][0]["delta"]["role"] == "assistant"
    assert rows[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_large_body_is_refused_with_and_without_its_length(client):
    async def pieces():
        for _ in range(30):
            yield b" " * 10_000

    for body in (b" " * (MAX_BODY_BYTES + 1), pieces()):
        async with client.post(CHAT, data=body) as response:
            assert response.status == 413
            error = (await response.json())["error"]
            assert error["code"] == "request_too_large"
            assert str(MAX_BODY_BYTES) in error["message"]


async def test_a_compressed_body_is_refused_with_the_reason(client):
    headers = {"content-encoding": "gzip"}
    async with client.post(CHAT, data=b"\x1f\x8b", headers=headers) as response:
        assert response.status == 415
        assert "gzip" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer mt-unknown"]
)
async def test_without_a_known_key_nothing_is_told(url, authorization):
    headers = {} if authorization is None else {"authorization": authorization}
    async with aiohttp.ClientSession(url, headers=headers) as client:
        for method, path in (
            ("POST", CHAT),
            ("POST", "/v1/completions"),
            ("POST", "/v1/embeddings"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/words"),
            ("GET", "/meted/v1/status"),
        ):
            async with client.request(method, path) as response:
                assert response.status == 401
                error = (await response.json())["error"]
                assert error["code"] == "invalid_api_key"
                assert error["type"] == "authentication_error"
                assert "meted keys create" in error["message"]


async def test_unknown_paths_and_methods_are_errors_in_the_same_shape(client):
    async with client.get("/v2/whatever") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"
    async with client.get(CHAT) as response:
        assert response.status == 405
        assert response.headers["allow"] == "POST"
        assert (await response.json())["error"]["code"] == "method_not_allowed"
    async with client.get("/health/") as response:
        assert response.status == 404


async def test_a_mistake_of_our_own_is_a_500_in_the_same_shape(client, doors):
    doors.models = lambda: 1 / 0
    doors.submit = lambda submission: 1 / 0
    for method, path in (("GET", "/v1/models"), ("POST", CHAT)):
        async with client.request(method, path, json=HI) as response:
            assert response.status == 500
            error = (await response.json())["error"]
            assert error["code"] == "internal_error"
            assert response.headers["x-meted-request-id"] in error["message"]


async def until(condition) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen within two seconds")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_cancels_its_request(serve, stream):
    doors = FakeDoors(Manners(word_s=0.02, answer_tokens=10_000))
    async with serve(create_app(doors, max_body_bytes=1000)) as url:
        headers = {"authorization": f"Bearer {TENANT_KEY}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            request = asyncio.create_task(client.post(CHAT, json=HI | {"stream": stream}))
            await until(lambda: doors.tickets)
            if stream:
                response = await request
                await response.content.readline()
                response.close()
            else:
                request.cancel()
        await until(lambda: doors.ended)
    assert doors.tickets[0].cancelled.is_set()
    assert doors.ended[0].outcome is Outcome.CANCELLED
    assert doors.running == 0


async def test_a_client_that_goes_before_its_body_is_whole_leaves_nothing(url, doors):
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TENANT_KEY}\r\n"
    writer.write(f"{head}content-length: 500\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.close()
    await asyncio.sleep(0.02)
    assert doors.tickets == []


async def test_an_answer_in_time_is_not_cancelled(client, doors):
    async with client.post(CHAT, json=HI) as response:
        assert response.status == 200
    await asyncio.sleep(0.01)
    assert not doors.tickets[0].cancelled.is_set()


async def test_words_stream_as_they_come(serve):
    doors = FakeDoors(Manners(word_s=0.03, answer_tokens=4))
    async with serve(create_app(doors, max_body_bytes=1000)) as url:
        headers = {"authorization": f"Bearer {TENANT_KEY}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            async with client.post(CHAT, json=HI | {"stream": True}) as response:
                rows = await events(response)
    texts = [row["choices"][0]["delta"].get("content") for row in rows[:-1]]
    assert texts == ["", "hi", " there", " hi", " there", None]
