"""Rollouts of a real model under real traffic: are the receipts true?

One house after another serves SmolLM2-135M to an open loop (Poisson arrivals; prompts are cut from
a text, so that no two begin alike) while rollouts run, one at a time, as `meted rollout start`
begins them: planted no-ops, which change a setting that nothing here reaches, and levers. Each
receipt's 95 % interval is held against the truth, and a no-op must never show a saving. A rollout
that was promoted changes what serves: the next one finds a new house.

The truth of a no-op is 0. That of a lever is what `--truth NAME=SHARE` says, such as from a table
that measured every configuration. Without it, it is what all other rollouts of the same lever say
together (one switchback estimate over their pairs); as that is uncertain too, the receipt's
interval is widened by the estimate's in quadrature, and the row is marked ~. That judges whether
receipts of a lever agree with each other, not a bias that all of them share: only no-ops and
`--truth` do that. A rollout that ended before its first look (errors, SLO) has no interval and is
not counted.

A rollout takes 2 canary turns and at most so many blocks, and has its first look after 6 pairs, or
at its end if it has fewer: by default 2 x 4 s + 12 x 8 s and the start of a replica, so 110 s. With
`--keep FILE` every receipt is appended as a line of JSON, and a later run with the same arguments
goes on with what is missing.

    python benchmarks/live_switchbacks.py --noops 6 --levers 4 --keep receipts.jsonl
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from load import client
from meted.testing.house import RealHouse, shared_checkpoints
from receipts import show

MODEL = "smollm2-135m"
NOOPS = (
    ("chunk+1", ("--settings", "chunk_tokens=257")),
    ("batch+1", ("--max-batch", "17")),
    ("cache+1", ("--settings", "cache_gib=2")),
    ("chunk+64", ("--settings", "chunk_tokens=320")),
    ("batch+8", ("--max-batch", "24")),
    ("batch-1", ("--max-batch", "15")),
)
"""None of these binds: steps hold fewer tokens than 256 and fewer requests than 15, and no prompt
comes twice that a larger cache would keep."""
LEVERS = (
    ("threads=1", ("--settings", "threads=1")),
    ("lookup", ("--settings", "speculation.kind=prompt_lookup")),
)
SETTLE_S = 8.0
"""Traffic of a new house before its first rollout, so that its step model has seen some."""
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One rollout. key: its own; name: of the change, which several share."""

    key: str
    name: str
    options: tuple[str, ...]
    noop: bool
    seed: int


def plan(noops: int, levers: int, seed: int) -> list[Planned]:
    """So many of each kind, in an order drawn by the seed."""
    wanted = [(*NOOPS[n % len(NOOPS)], True) for n in range(noops)]
    wanted += [(*LEVERS[n % len(LEVERS)], False) for n in range(levers)]
    counted: Counter[str] = Counter()
    made: list[Planned] = []
    for number, (name, options, noop) in enumerate(wanted):
        counted[name] += 1
        key = f"{name} #{counted[name]}"
        made.append(
            Planned(key=key, name=name, options=options, noop=noop, seed=1000 * seed + number)
        )
    random.Random(seed).shuffle(made)
    return made


# Traffic.


def words_of(path: Path | None) -> list[str]:
    """The text's words; without one, this Python's own documentation, which every machine has."""
    if path is not None:
        content = path.read_bytes()
        whole = gzip.decompress(content) if path.suffix == ".gz" else content
        return whole.decode(errors="replace").split()
    import pydoc_data.topics as topics

    return " ".join(topics.topics.values()).split()


def body(words: list[str], rng: random.Random) -> dict[str, Any]:
    """A completion of 40 to 110 words cut from the text, in 24 to 40 tokens."""
    count = rng.randint(40, 110)
    start = rng.randrange(len(words) - count)
    return {
        "model": MODEL,
        "prompt": " ".join(words[start : start + count]),
        "max_tokens": rng.randint(24, 40),
        "ignore_eos": True,
        "temperature": 0,
    }


class Traffic:
    """An open loop that runs until it is cancelled, and what became of it."""

    def __init__(self, house: RealHouse, words: list[str], rate: float, seed: int) -> None:
        self._house, self._words, self._rate = house, words, rate
        self._rng = random.Random(seed)
        self.answered, self.seconds = 0, 0.0
        self.errors: Counter[str] = Counter()

    async def run(self) -> None:
        url = f"{self._house.url}/v1/completions"
        async with client(self._house.key) as session, asyncio.TaskGroup() as asking:
            due = time.perf_counter()
            while True:
                due += self._rng.expovariate(self._rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asking.create_task(self._ask(session, url, body(self._words, self._rng)))

    async def _ask(self, session: aiohttp.ClientSession, url: str, request: dict[str, Any]) -> None:
        began = time.perf_counter()
        try:
            async with session.post(url, json=request) as response:
                text = await response.text()
                if response.status != 200:
                    self.errors[f"{response.status} {text[:120]}"] += 1
                    return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.errors[repr(error)] += 1
            return
        self.answered += 1
        self.seconds += time.perf_counter() - began


# The machine.


def busy_seconds() -> float:
    """Core-seconds that the machine has worked since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def own_seconds(house: RealHouse) -> float:
    """Core-seconds of this process and of the house with all that it started."""
    assert house.process is not None
    keeper = psutil.Process(house.process.pid)
    total = sum(keeper.cpu_times()[:4]) + sum(psutil.Process().cpu_times()[:4])
    for child in keeper.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:2])
    return total


def spent(house: RealHouse) -> int:
    """Nano-USD that the house's books hold, idle time too."""
    totals = house.admin("timeline")["totals"].values()
    return sum(one["nano_usd"] for one in totals)


# Rollouts.


class Stand:
    """A house with traffic, made anew when what it serves is no longer the default."""

    def __init__(self, given: argparse.Namespace, words: list[str]) -> None:
        self._given, self._words = given, words
        self._stack = contextlib.AsyncExitStack()
        self._houses = 0
        self.house: RealHouse | None = None
        self.traffic: Traffic | None = None
        self._running: asyncio.Task[None] | None = None

    async def ready(self) -> RealHouse:
        """A house that serves the default, and has done so for a while."""
        if self.house is None:
            self.house = await self._stack.enter_async_context(self._served())
            await asyncio.sleep(SETTLE_S)
        return self.house

    def check(self) -> None:
        """Raises what ended the traffic, which should not end."""
        if self._running is not None and self._running.done():
            self._running.result()

    async def close(self) -> None:
        self.house = self._running = None
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[RealHouse]:
        config = {
            "deployments": [{"name": MODEL, "checkpoint": MODEL}],
            "books": {"interval_s": 0.5},
        }
        home = self._given.home
        house = RealHouse(
            config=config, cache=shared_checkpoints() if home is None else home / "checkpoints"
        )
        self._houses += 1
        seed = 100 * self._given.seed + self._houses
        try:
            await asyncio.to_thread(house.start)
            self.traffic = Traffic(house, self._words, self._given.rate, seed)
            running = self._running = asyncio.create_task(self.traffic.run())
            try:
                yield house
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            await asyncio.to_thread(house.remove)


async def roll_out(stand: Stand, one: Planned, given: argparse.Namespace) -> dict[str, Any]:
    """One rollout from its start until one version is left; what it left behind."""
    house = await stand.ready()
    traffic = stand.traffic
    assert traffic is not None
    began, cost, busy, own = time.monotonic(), spent(house), busy_seconds(), own_seconds(house)
    answered, waited = traffic.answered, traffic.seconds
    traffic.errors.clear()
    told = await asyncio.to_thread(
        house.meted,
        *("rollout", "start", MODEL, *one.options, "--json", "--seed", str(one.seed)),
        *("--predicted", str(predicted(one, given)), "--blocks", str(given.blocks)),
        *("--block", str(given.block_seconds), "--washout", str(given.washout)),
        *("--canary", str(given.canary)),
    )
    name = json.loads(told)["id"]
    patience = began + 300 + 2 * (given.blocks + 2) * given.block_seconds
    while True:
        await asyncio.sleep(POLL_S)
        stand.check()
        view = await asyncio.to_thread(house.admin, f"rollouts/{name}")
        status = await asyncio.to_thread(house.admin, "status")
        if view["phase"] in ("promoted", "returned") and len(status["deployments"]) == 1:
            break
        if time.monotonic() > patience:
            raise TimeoutError(f"{one.key} has not ended: {view['phase']}, {view['turn']}")
    seconds = time.monotonic() - began
    foreign = (busy_seconds() - busy) - (own_seconds(house) - own)
    savings = json.loads(await asyncio.to_thread(house.meted, "savings", "--json"))
    row = {
        "key": one.key,
        "name": one.name,
        "noop": one.noop,
        "plan": plan_words(given),
        "seconds": seconds,
        "others": max(0.0, foreign) / seconds / len(status["pool"]["devices"]),
        "nano_usd": spent(house) - cost,
        "requests": traffic.answered - answered,
        "mean_s": (traffic.seconds - waited) / max(1, traffic.answered - answered),
        "errors": dict(traffic.errors),
        "blocks": view["blocks"],
        "receipt": next(receipt for receipt in savings["receipts"] if receipt["id"] == name),
    }
    if view["phase"] == "promoted":
        await stand.close()
    return row


def predicted(one: Planned, given: argparse.Namespace) -> float:
    """What the rollout is told that it saves: nothing of the measurement hangs on it."""
    return 0.05 if one.noop else given.truth.get(one.name, 0.1)


def plan_words(given: argparse.Namespace) -> str:
    """What must be equal for two runs' receipts to stand in one table."""
    return (
        f"{given.blocks} blocks of {given.block_seconds:g} s, washout {given.washout:g} s, "
        f"canary {given.canary:g} s, {given.rate:g} requests/s"
    )


# Running.


def kept(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that earlier runs left. Raises SystemExit if they were made otherwise."""
    if given.keep is None or not given.keep.exists():
        return []
    rows = [json.loads(line) for line in given.keep.read_text().splitlines() if line]
    for row in rows:
        if row["plan"] != plan_words(given):
            raise SystemExit(
                f"{given.keep} holds {row['key']} with {row['plan']}, and this run has "
                f"{plan_words(given)}; give it another file"
            )
    return rows


async def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """All rollouts that are missing, one after another; the rows of all of them."""
    rows = kept(given)
    done = {row["key"] for row in rows}
    missing = [one for one in plan(given.noops, given.levers, given.seed) if one.key not in done]
    stand = Stand(given, words_of(given.text))
    try:
        for number, one in enumerate(missing, start=1):
            row = await roll_out(stand, one, given)
            rows.append(row)
            if given.keep is not None:
                with given.keep.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(
                f"{number}/{len(missing)} {one.key}: {row['receipt']['status']} after "
                f"{row['seconds']:.0f} s, {row['requests']} answers in {row['mean_s']:.2f} s each, "
                f"others {row['others']:.1%}: {row['receipt']['reason']}",
                flush=True,
            )
    finally:
        await stand.close()
    return rows


def truth(text: str) -> tuple[str, float]:
    """NAME=SHARE, where the name may hold an equals sign itself."""
    name, _, share = text.rpartition("=")
    if name not in dict(LEVERS):
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(dict(LEVERS))}")
    return name, float(share)


def main() -> None:
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--noops", type=int, default=6)
    parser.add_argument("--levers", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=12, help="turns compared at most; even")
    parser.add_argument("--block-seconds", type=float, default=8.0)
    parser.add_argument("--washout", type=float, default=1.5)
    parser.add_argument("--canary", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", type=truth, action="append", default=[], help="NAME=SHARE")
    parser.add_argument("--text", type=Path, help="a text (or .gz) whose pieces are prompts")
    parser.add_argument("--home", type=Path, help="whose checkpoints are served")
    parser.add_argument("--keep", type=Path, help="receipts as JSON lines; appended to")
    given = parser.parse_args()
    given.truth = dict(given.truth)
    rows = asyncio.run(measure(given))
    if rows:
        show(rows, given.truth)


if __name__ == "__main__":
    main()
