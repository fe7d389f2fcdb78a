"""Load on a running house: real streaming clients, open loop (Poisson) or closed loop."""

import asyncio
import json
import random
import time
from dataclasses import dataclass

import aiohttp

WORDS = [
    "river",
    "stone",
    "engine",
    "budget",
    "cloud",
    "market",
    "paper",
    "window",
    "garden",
    "signal",
    "copper",
    "winter",
    "matter",
    "letter",
    "station",
    "harbour",
    "bridge",
    "number",
    "circle",
    "doctor",
    "kitchen",
    "mountain",
    "pocket",
    "summer",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long prompts (words, a range) and answers (tokens, a range) are."""

    prompt_words: tuple[int, int] = (20, 160)
    answer_tokens: tuple[int, int] = (24, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one client saw, in seconds; error is empty if the answer came to its end."""

    at: float
    ttft: float
    tpot: float
    e2e: float
    tokens: int
    error: str = ""


def body(
    rng: random.Random, model: str, shape: Shape, words: random.Random | None = None
) -> dict[str, object]:
    """A chat request with random words, so that no prefix is cached, and a fixed answer length.

    words: another source for the words alone, so that equal lengths need not be equal prompts.
    """
    count = rng.randint(*shape.prompt_words)
    text = " ".join((words or rng).choice(WORDS) for _ in range(count))
    return {
        "model": model,
        "messages": [{"role": "user", "content": f"Tell a story with these words: {text}"}],
        "max_tokens": rng.randint(*shape.answer_tokens),
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def ask_whole(
    session: aiohttp.ClientSession, url: str, request: dict[str, object], began: float
) -> Seen:
    """One request answered in one piece; its first token is its last."""
    start = time.perf_counter()
    whole = {k: v for k, v in request.items() if k not in ("stream", "stream_options")}
    async with session.post(f"{url}/v1/chat/completions", json=whole) as response:
        answer = await response.json()
        elapsed = time.perf_counter() - start
        error = "" if response.status == 200 else json.dumps(answer)[:200]
        tokens = 0 if error else answer["usage"]["completion_tokens"]
    return Seen(at=start - began, ttft=elapsed, tpot=0, e2e=elapsed, tokens=tokens, error=error)


async def ask(
    session: aiohttp.ClientSession, url: str, request: dict[str, object], began: float
) -> Seen:
    """One streamed request, timed by its client."""
    start = time.perf_counter()
    first = last = 0.0
    tokens = 0
    try:
        async with session.post(f"{url}/v1/chat/completions", json=request) as response:
            if response.status != 200:
                text = (await response.text())[:200]
                return Seen(at=start - began, ttft=0, tpot=0, e2e=0, tokens=0, error=text)
            async for line in response.content:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    message = chunk["error"]["message"]
                    return Seen(at=start - began, ttft=0, tpot=0, e2e=0, tokens=0, error=message)
                if chunk.get("usage"):
                    tokens = chunk["usage"]["completion_tokens"]
                if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    last = time.perf_counter()
                    first = first or last
    except (aiohttp.ClientError, TimeoutError) as error:
        return Seen(at=start - began, ttft=0, tpot=0, e2e=0, tokens=0, error=repr(error))
    if not first:
        return Seen(at=start - began, ttft=0, tpot=0, e2e=0, tokens=tokens, error="no text came")
    return Seen(
        at=start - began,
        ttft=first - start,
        tpot=(last - first) / max(1, tokens - 1),
        e2e=time.perf_counter() - start,
        tokens=tokens,
    )


def client(key: str) -> aiohttp.ClientSession:
    """A session with a tenant's key and no limit on connections."""
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=300),
    )


async def open_loop(
    *,
    url: str,
    key: str,
    model: str,
    rate: float,
    seconds: float,
    seed: int,
    shape: Shape,
    words_seed: int,
) -> list[Seen]:
    """Poisson arrivals at `rate` requests/s for `seconds`, whatever the answers do.

    Equal seeds give equal arrivals and lengths; words_seed alone decides the prompts' words.
    """
    rng, words = random.Random(seed), random.Random(words_seed)
    async with client(key) as session:
        began = time.perf_counter()
        due, pending = 0.0, []
        while (due := due + rng.expovariate(rate)) < seconds:
            request = body(rng, model, shape, words)
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            pending.append(asyncio.create_task(ask(session, url, request, began)))
        return list(await asyncio.gather(*pending))


async def closed_loop(
    *,
    url: str,
    key: str,
    model: str,
    concurrency: int,
    seconds: float,
    seed: int,
    shape: Shape,
    stream: bool = True,
) -> list[Seen]:
    """`concurrency` clients, each asking again as soon as it is answered, for `seconds`."""
    put = ask if stream else ask_whole
    async with client(key) as session:
        began = time.perf_counter()

        async def one(number: int) -> list[Seen]:
            rng = random.Random(seed * 1000 + number)
            seen: list[Seen] = []
            while time.perf_counter() - began < seconds:
                seen.append(await put(session, url, body(rng, model, shape), began))
            return seen

        return [s for part in await asyncio.gather(*map(one, range(concurrency))) for s in part]


def quantile(values: list[float], share: float) -> float:
    """A quantile by linear interpolation; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
