"""Rate limits at the doors: taken before, settled after, told in headers, forgotten when idle."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from meted.domain.request import ChatPrompt, EmbeddingPrompt, Message, TextPrompt
from meted.domain.units import KeyId, Micros, Tokens
from meted.gateway.app import create_app
from meted.gateway.limits import (
    DEFAULT_ANSWER_TOKENS,
    FEWEST_SWEPT,
    KeyLimits,
    most_tokens,
)
from meted.live.doors import Begun, HouseError, Key
from meted.policy.rate_limit import MICROS_PER_MINUTE, NO_LIMITS, Limits
from meted.testing.fake_doors import ADMIN_KEY, TENANT_KEY, FakeDoors, Manners

CHAT = "/v1/chat/completions"
HI = {"model": "words", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 2}


class Clock:
    def __init__(self) -> None:
        self.now = Micros(0)

    def __call__(self) -> Micros:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now = Micros(self.now + round(seconds * 1e6))


def limited(doors: FakeDoors, **limits: int) -> None:
    """Give the tenant's key these limits."""
    key = doors.money.find_key(TENANT_KEY)
    assert key is not None
    doors.money.add_key(replace(key, limits=Limits(**limits)), TENANT_KEY)


def a_key(number: int = 0, **limits: int) -> Key:
    key = FakeDoors().money.find_key(TENANT_KEY)
    assert key is not None
    return replace(key, id=KeyId(f"key-{number}"), limits=Limits(**limits))


# The limits themselves.


def test_a_key_without_limits_is_never_looked_up() -> None:
    limits = KeyLimits(Clock())
    assert limits.of(replace(a_key(), limits=NO_LIMITS)) is None
    assert limits.of(replace(a_key(), limits=Limits())) is None
    assert len(limits) == 0


def test_unused_tokens_come_back_and_overuse_is_owed() -> None:
    clock = Clock()
    key = KeyLimits(clock).of(a_key(tokens_per_minute=1000))
    assert key is not None
    key.admit(800).settle(100)
    key.admit(900).settle(900)
    with pytest.raises(HouseError):
        key.admit(1)
    clock.pass_s(60)
    key.admit(100).settle(700)
    # 900 are left of this minute, but 600 are owed.
    with pytest.raises(HouseError):
        key.admit(400)
    key.admit(300).settle(300)
    clock.pass_s(60)
    key.admit(1000)


def test_a_debt_larger_than_the_limit_is_paid_in_parts() -> None:
    clock = Clock()
    key = KeyLimits(clock).of(a_key(tokens_per_minute=100))
    assert key is not None
    key.admit(10).settle(250)
    admitted = 0
    for _ in range(6):
        clock.pass_s(60)
        try:
            key.admit(50).settle(50)
            admitted += 50
        except HouseError:
            pass
    # Six minutes bring 600, of which 240 are owed.
    assert 250 <= admitted <= 300
    assert not key.idle(clock.now)


def test_a_request_larger_than_the_limit_is_told_that_waiting_does_not_help() -> None:
    key = KeyLimits(Clock()).of(a_key(tokens_per_minute=100))
    assert key is not None
    with pytest.raises(HouseError, match="lower max_tokens") as refused:
        key.admit(101)
    assert refused.value.retry_after_s is None
    assert refused.value.details["limited_by"] == "tokens"


def test_an_admission_is_settled_once() -> None:
    key = KeyLimits(Clock()).of(a_key(concurrent=1))
    assert key is not None
    admission = key.admit(5)
    admission.settle(1)
    admission.abandon()
    admission.settle(0)
    key.admit(5)
    with pytest.raises(HouseError):
        key.admit(5)


def test_changed_limits_begin_anew_and_running_requests_end_under_the_old() -> None:
    limits = KeyLimits(Clock())
    before = limits.of(a_key(requests_per_minute=1))
    assert before is not None
    running = before.admit(0)
    after = limits.of(a_key(requests_per_minute=2))
    assert after is not None
    assert after is not before
    after.admit(0)
    running.settle(0)


def test_idle_keys_are_forgotten_so_that_memory_is_bounded() -> None:
    clock = Clock()
    limits = KeyLimits(clock)
    busy = limits.of(a_key(-1, concurrent=1))
    assert busy is not None
    busy.admit(0)
    for number in range(50 * FEWEST_SWEPT):
        key = limits.of(a_key(number, requests_per_minute=5))
        assert key is not None
        key.admit(0).settle(0)
        clock.pass_s(2)
        assert len(limits) <= 2 * FEWEST_SWEPT
    assert limits.of(a_key(-1, concurrent=1)) is busy


def test_a_key_is_idle_only_when_a_new_one_would_stand_the_same() -> None:
    clock = Clock()
    key = KeyLimits(clock).of(a_key(requests_per_minute=5))
    assert key is not None
    admission = key.admit(0)
    clock.now = Micros(MICROS_PER_MINUTE)
    assert not key.idle(clock.now)
    admission.settle(0)
    assert not key.idle(clock.now)
    clock.now = Micros(2 * MICROS_PER_MINUTE)
    assert key.idle(clock.now)


def test_most_tokens_bounds_every_prompt_by_its_bytes() -> None:
    assert most_tokens(TextPrompt(text="é" * 10), 5) >= 25
    chat = ChatPrompt(messages=(Message(role="user", content="x" * 100),))
    assert most_tokens(chat, None) >= 100 + DEFAULT_ANSWER_TOKENS
    # An embedding answers without tokens, whatever max_tokens would be.
    assert most_tokens(EmbeddingPrompt(texts=("ab", "c")), None) < DEFAULT_ANSWER_TOKENS


# At the doors.


async def ask(client, body=HI, path=CHAT, status=200):
    async with client.post(path, json=body) as response:
        assert response.status == status, await response.text()
        return response.headers, await response.read()


async def test_every_answer_of_a_limited_key_says_what_is_left(client, doors) -> None:
    limited(doors, requests_per_minute=10, tokens_per_minute=300)
    headers, _ = await ask(client)
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert headers["x-ratelimit-limit-tokens"] == "300"
    # Two words in and two out were used; what else was taken has come back, and time brings more.
    assert 296 <= int(headers["x-ratelimit-remaining-tokens"]) <= 299
    headers, _ = await ask(client, HI | {"stream": True})
    assert headers["x-ratelimit-remaining-requests"] == "8"
    for body, path, status in (
        (HI | {"temperature": 9}, CHAT, 400),
        (HI | {"model": "nope"}, CHAT, 404),
        ({"model": "vectors", "input": "x"}, "/v1/embeddings", 200),
    ):
        headers, _ = await ask(client, body, path, status)
        assert "x-ratelimit-remaining-requests" in headers
    async with client.get("/v1/models") as response:
        assert response.headers["x-ratelimit-limit-requests"] == "10"
    async with client.get("/meted/v1/bill") as response:
        assert response.headers["x-ratelimit-limit-requests"] == "10"


async def test_a_key_without_limits_gets_no_such_headers(client) -> None:
    headers, _ = await ask(client)
    assert not [name for name in headers if name.lower().startswith("x-ratelimit")]


async def test_requests_over_the_limit_are_refused_in_openais_words(client, doors) -> None:
    limited(doors, requests_per_minute=2)
    await ask(client)
    await ask(client)
    for body in (HI, HI | {"stream": True}):
        async with client.post(CHAT, json=body) as response:
            assert response.status == 429
            error = (await response.json())["error"]
            assert error["code"] == error["type"] == "rate_limit_exceeded"
            assert error["limited_by"] == "requests"
            assert 1 <= int(response.headers["retry-after"]) <= 30
            assert response.headers["x-ratelimit-remaining-requests"] == "0"
    async with client.get("/meted/v1/keys") as response:
        assert response.status == 429
    assert len(doors.tickets) == 2


async def test_a_refused_request_uses_no_tokens(client, doors) -> None:
    limited(doors, tokens_per_minute=2_000, requests_per_minute=100)
    doors.manners = Manners(refuses_with=402)
    for _ in range(20):
        headers, _ = await ask(client, status=402)
    assert headers["x-ratelimit-remaining-tokens"] == "2000"
    assert 80 <= int(headers["x-ratelimit-remaining-requests"]) < 95


async def test_concurrent_requests_are_limited_until_one_ends(serve) -> None:
    doors = FakeDoors(Manners(word_s=0.05))
    limited(doors, concurrent=2)
    async with serve(create_app(doors, max_body_bytes=1000)) as url:
        headers = {"authorization": f"Bearer {TENANT_KEY}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:

            async def status() -> int:
                async with client.post(CHAT, json=HI) as response:
                    await response.read()
                    return response.status

            both = [asyncio.create_task(status()) for _ in range(2)]
            while len(doors.tickets) < 2:
                await asyncio.sleep(0.005)
            assert await status() == 429
            assert await asyncio.gather(*both) == [200, 200]
            assert await status() == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_frees_its_place(serve, stream) -> None:
    doors = FakeDoors(Manners(word_s=0.02, answer_tokens=10_000))
    limited(doors, concurrent=1)
    body = HI | {"stream": stream, "max_tokens": 9_000}
    async with serve(create_app(doors, max_body_bytes=1000)) as url:
        headers = {"authorization": f"Bearer {TENANT_KEY}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            request = asyncio.create_task(client.post(CHAT, json=body))
            while not doors.tickets:
                await asyncio.sleep(0.005)
            if stream:
                (await request).close()
            else:
                request.cancel()
            while not doors.ended:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.01)
            doors.manners = Manners()
            async with client.post(CHAT, json=HI) as response:
                assert response.status == 200


async def test_a_failure_of_our_own_frees_the_place_too(client, doors) -> None:
    limited(doors, concurrent=1)
    submit = doors.submit
    doors.submit = lambda submission: 1 / 0
    await ask(client, status=500)
    doors.submit = submit
    await ask(client)


async def test_a_stream_that_breaks_frees_the_place(client, doors) -> None:
    class Breaking:
        """A ticket that fails after its first word."""

        def __init__(self) -> None:
            self.events = [Begun(prompt_tokens=Tokens(1))]
            self.cancelled = False

        async def next(self):
            return self.events.pop()

        def next_nowait(self) -> None:
            return None

        def cancel(self) -> None:
            self.cancelled = True

    limited(doors, concurrent=1)
    submit, ticket = doors.submit, Breaking()
    doors.submit = lambda submission: ticket
    async with client.post(CHAT, json=HI | {"stream": True}) as response:
        assert response.status == 200
        assert b"internal_error" in await response.read()
    assert ticket.cancelled
    doors.submit = submit
    await ask(client)


async def test_an_admin_is_not_locked_out_by_limits(url, doors) -> None:
    key = doors.money.find_key(ADMIN_KEY)
    assert key is not None
    doors.money.add_key(replace(key, limits=Limits(requests_per_minute=1)), ADMIN_KEY)
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    async with aiohttp.ClientSession(url, headers=headers) as admin:
        for _ in range(3):
            async with admin.get("/meted/v1/audit") as response:
                assert response.status == 200
