"""Several real houses on one store, and clients that remember what they were told.

Each house is a process of its own (`meted up`) with its own home and a replica with a fake engine;
they share the books, on SQLite or on a real PostgreSQL.
"""

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from meted.live.stores import open_database
from meted.live.stores.database import whole
from meted.testing.house import RealHouse

MODEL = "fake"
TENANT = "acme"
ENGINE = "meted.testing.fake_engine:FakeEngine"
NANOS = 1_000_000_000
INPUT_NANO_USD = 1_000
"""$1 per million input tokens, in nano-USD per token."""
OUTPUT_NANO_USD = 3_000
"""$3 per million output tokens."""
WORDS = ("river", "stone", "engine", "budget", "cloud", "market", "paper", "window", "garden")


def nano(usd: str) -> int:
    """Dollars as the house tells them, in nano-USD."""
    return int(Decimal(usd) * NANOS)


def usd(amount: int) -> str:
    """Nano-USD as the house reads dollars."""
    return f"{Decimal(amount) / NANOS:f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeModel:
    """How the fake engine answers: a step's time in micros, asleep; answers that end early."""

    decode_us: int = 20_000
    early_permille: int = 300
    max_batch: int = 16

    def settings(self) -> dict[str, Any]:
        return {
            "sleep": True,
            "decode_us": self.decode_us,
            "early_permille": self.early_permille,
        }


class Houses:
    """Houses that share their books. target: where those are."""

    def __init__(
        self,
        count: int,
        target: str | None,
        *,
        model: FakeModel,
        flush_ms: int = 250,
        interval_s: float = 1.0,
        books: dict[str, Any] | None = None,
        cache: Path | None = None,
        policy: str = "demand",
    ) -> None:
        """cache: converted models for the first house, which may train then."""
        self._folder = Path(tempfile.mkdtemp(prefix="meted-shared-"))
        self.target: str | Path = target or self._folder / "books.sqlite"
        deployment = {
            "name": MODEL,
            "engine": ENGINE,
            "max_batch": model.max_batch,
            "max_queue": 2000,
        }
        self.all = [
            RealHouse(
                config={
                    "deployments": [deployment],
                    "policy": {"name": policy},
                    "books": {
                        "store": str(self.target),
                        "interval_s": interval_s,
                        "flush_ms": flush_ms,
                        **(books or {}),
                    },
                },
                cache=cache if number == 0 else None,
            )
            for number in range(count)
        ]
        for house in self.all:
            folder = house.home / "checkpoints" / MODEL
            folder.mkdir(parents=True)
            (folder / "fake.json").write_text(json.dumps(model.settings()))

    def start(self) -> "Houses":
        """Start all houses, and charge by the token."""
        for house in self.all:
            house.start()
        self.all[0].admin(
            "rates",
            "POST",
            {
                "rates": {
                    "charge": "card",
                    "input_usd_per_million": "1",
                    "cached_input_usd_per_million": "1",
                    "output_usd_per_million": "3",
                    "training_usd_per_device_second": "0.000001",
                },
            },
        )
        return self

    def set_budget(self, name: str, limit: int, *, period: str = "total") -> None:
        """A hard budget of the tenant, in nano-USD; every house knows it after this."""
        body = {"tenant": TENANT, "period": period, "limit_usd": usd(limit), "hard": True}
        self.all[0].admin(f"budgets/{name}", "PUT", body)
        # Houses notice what others changed within a quarter of a second.
        time.sleep(1.0)

    def stop(self) -> None:
        for house in self.all:
            house.stop()

    def check(self) -> str:
        """What `meted bill --check` says; raises RuntimeError if it finds a fault."""
        return self.all[0].meted("bill", "--check", "--books", str(self.target))

    def in_flight(self) -> int:
        """Requests accepted and not ended, over all houses."""
        total = 0
        for house in self.all:
            for one in house.admin("status")["deployments"]:
                total += one["running"] + one["waiting"]
        return total

    def wait_settled(self, *, patience_s: float = 60) -> None:
        """Until no request is in flight in any house, and its end has been written."""
        end = time.monotonic() + patience_s
        while self.in_flight():
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{self.in_flight()} requests are in flight after {patience_s} s"
                )
            time.sleep(0.1)
        time.sleep(1.0)

    def remove(self) -> None:
        for house in self.all:
            if house.process is not None and house.process.poll() is None:
                house.kill()
            house.remove()


@contextlib.contextmanager
def stores(names: Sequence[str]) -> Iterator[Iterator[tuple[str, str | None]]]:
    """Each named store in turn, fresh: its name and its address (None: a file)."""
    with contextlib.ExitStack() as stack:

        def each() -> Generator[tuple[str, str | None]]:
            for name in names:
                if name == "sqlite":
                    yield name, None
                    continue
                from meted.testing.postgres import PostgresServer

                server = stack.enter_context(PostgresServer())
                yield name, stack.enter_context(server.fresh_database())

        yield each()


# What is in the books.


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """One request in the books; how_often: rows under its id."""

    price: int
    cost: int
    outcome: str
    how_often: int


def entered(target: str | Path) -> dict[str, Entered]:
    """All requests in the books, by id."""
    database = open_database(target, read_only=True)
    try:
        rows = database.read(
            lambda db: db.rows("SELECT id, price, cost, outcome FROM requests ORDER BY ended, id")
        )
    finally:
        database.close()
    found: dict[str, Entered] = {}
    for name, price, cost, outcome in rows:
        before = found.get(name)
        found[name] = Entered(
            price=price,
            cost=cost,
            outcome=outcome,
            how_often=1 if before is None else before.how_often + 1,
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a budget's first window stands in the store. held: granted, or spent where closed."""

    held: int
    spent: int


def standing(target: str | Path, budget: str) -> Standing:
    """Read what houses hold and have spent of a budget, as the books have it now."""
    # No lock is taken that a house would wait for.
    database = open_database(target, read_only=True)
    try:
        ((held, spent),) = database.read(
            lambda db: db.rows(
                "SELECT sum(CASE WHEN closed = 1 THEN spent ELSE granted END), sum(spent)"
                " FROM budget_leases WHERE budget = ?",
                budget,
            )
        )
    finally:
        database.close()
    return Standing(held=whole(held), spent=whole(spent))


# Clients.


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one client will ask, the same for every gateway. leaves_after: chunks until it goes."""

    number: int
    prompt: str
    max_tokens: int
    stream: bool
    leaves_after: int | None = None

    def body(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": self.stream,
        }
        if self.stream:
            fields["stream_options"] = {"include_usage": True}
        return fields

    @property
    def worst(self) -> int:
        """The most nano-USD that it may be charged, as the house sets it aside before dispatch."""
        text = len("user") + len(self.prompt.encode())
        return (text + 80) * INPUT_NANO_USD + self.max_tokens * OUTPUT_NANO_USD


def plans(
    count: int, *, seed: int, leaving_permille: int, tokens: tuple[int, int] = (16, 256)
) -> list[Plan]:
    """So many random clients: prompts of 5 to 60 words, half of them streaming."""
    rng = random.Random(seed)
    made: list[Plan] = []
    for number in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(5, 60))]
        leaves = rng.randrange(1000) < leaving_permille
        stream = leaves or rng.random() < 0.5
        made.append(
            Plan(
                number=number,
                prompt=f"{number} " + " ".join(words),
                max_tokens=rng.randint(*tokens),
                stream=stream,
                leaves_after=rng.randint(1, 12) if leaves else None,
            )
        )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one attempt ended in. status: HTTP's; 0 where the connection broke, also in mid-stream.

    acknowledged: the answer came to its end, whole or up to [DONE] with its usage. price, cost: as
    told, in nano-USD.
    """

    status: int
    acknowledged: bool = False
    left: bool = False
    request_id: str = ""
    price: int = 0
    cost: int = 0
    retry_after_s: float | None = None
    error: str = ""


async def attempt(session: aiohttp.ClientSession, url: str, key: str, plan: Plan) -> Told:
    """Ask once."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with session.post(
            f"{url}/v1/chat/completions", json=plan.body(), headers=headers
        ) as response:
            name = response.headers.get("x-meted-request-id", "")
            if response.status != 200:
                body = await response.json(content_type=None)
                wait = response.headers.get("retry-after")
                return Told(
                    status=response.status,
                    request_id=name,
                    retry_after_s=None if wait is None else float(wait),
                    error=body["error"]["code"] or body["error"]["message"],
                )
            if plan.stream:
                return await _stream(response, plan, name)
            answer = await response.json()
            return _acknowledged(name, answer["usage"])
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Told(status=0, error=type(error).__name__)


async def _stream(response: aiohttp.ClientResponse, plan: Plan, name: str) -> Told:
    usage: dict[str, Any] | None = None
    chunks = 0
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            if usage is None:
                return Told(status=200, request_id=name, error="no usage came")
            return _acknowledged(name, usage)
        chunk = json.loads(line[6:])
        if "error" in chunk:
            return Told(status=0, request_id=name, error=chunk["error"]["message"])
        usage = chunk.get("usage") or usage
        chunks += 1
        if chunks == plan.leaves_after:
            response.close()
            return Told(status=200, left=True, request_id=name)
    return Told(status=0, request_id=name, error="the stream broke off")


def _acknowledged(name: str, usage: dict[str, Any]) -> Told:
    return Told(
        status=200,
        acknowledged=True,
        request_id=name,
        price=nano(usage.get("meted_price_usd", "0")),
        cost=nano(usage.get("meted_cost_usd", "0")),
    )


def sessions() -> aiohttp.ClientSession:
    """Many connections, none reused, so that a killed house breaks no other client's."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=120),
    )


async def until_answered(
    session: aiohttp.ClientSession,
    gateways: Sequence[tuple[str, str]],
    plan: Plan,
    told: list[Told],
    *,
    deadline: float,
) -> Told:
    """Ask as openai's client retries: what can be tried again after the time that was told, 402
    and other refusals never. A gateway that is gone: the next one. told: grows by each attempt."""
    rng = random.Random(plan.number)
    place = plan.number
    while True:
        url, key = gateways[place % len(gateways)]
        one = await attempt(session, url, key, plan)
        told.append(one)
        if one.acknowledged or one.left or one.status in (400, 401, 402, 404):
            return one
        if time.monotonic() > deadline:
            return one
        if one.status == 0:
            place += 1
        wait = one.retry_after_s if one.retry_after_s is not None else 0.5
        await asyncio.sleep(wait * rng.uniform(1.0, 1.25))
