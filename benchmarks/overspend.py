"""Whether a hard budget can be overrun: 1,000 clients at once, money for about 200 of them.

Four real houses share one store. All clients ask at the same time, some leave in mid-stream, and
houses are killed (kill -9) and started again meanwhile. Clients retry 429 as openai's client does,
until they are answered or refused for good (402). Held against the books: what was charged, what
houses held at any moment, and what was left unused. In a second run the money suffices for every
worst case, and nobody may be refused. Beside it, the same clients before a gateway that checks the
spending before a request and charges after it.

    .venv/bin/python benchmarks/overspend.py [--stores sqlite postgres] [--repeats 3] [--json]
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from houses import (
    INPUT_NANO_USD,
    OUTPUT_NANO_USD,
    FakeModel,
    Houses,
    Plan,
    Standing,
    Told,
    entered,
    plans,
    sessions,
    standing,
    stores,
    until_answered,
    usd,
)
from meted.domain.request import ChatPrompt, EngineRequest, Message, Sampling
from meted.domain.units import RequestId
from meted.testing.fake_engine import FakeEngine, FakeSettings
from meted.testing.house import machine

BUDGET = "cap"
LEAVING_PERMILLE = 100
PATIENCE_S = 120.0
KILLING_S = 60.0
"""Houses are killed for so long; after it, every client that can be answered is, in patience."""


@dataclass(slots=True, kw_only=True)
class Result:
    """One run. Amounts in nano-USD. most_held, most_spent: of all moments at which the store was
    read. missing: acknowledged answers that are not in the books once, with the told price."""

    gateway: str
    scenario: str
    store: str
    seed: int
    clients: int
    budget: int
    charged: int = 0
    most_held: int = 0
    most_spent: int = 0
    polls: int = 0
    answered: int = 0
    left: int = 0
    refused: int = 0
    given_up: int = 0
    attempts: int = 0
    told_429: int = 0
    broken: int = 0
    kills: int = 0
    missing: int = 0
    seconds: float = 0.0
    check: str = ""
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def overshoot(self) -> int:
        return max(0, self.charged - self.budget, self.most_held - self.budget)

    @property
    def unused_percent(self) -> float:
        return 100 * (self.budget - self.charged) / self.budget


def expected_price(plan: Plan, model: FakeModel) -> int:
    """What a client is charged on average: its words, and an answer that may end early."""
    words = len(plan.prompt.split()) + 1
    share = 1 - model.early_permille / 2000
    if plan.leaves_after is not None:
        share = min(share, plan.leaves_after / plan.max_tokens)
    return round(words * INPUT_NANO_USD + plan.max_tokens * share * OUTPUT_NANO_USD)


async def ask_all(gateways: list[tuple[str, str]], asked: list[Plan], result: Result) -> list[Told]:
    """All clients at once, each until it is answered, refused or out of patience."""
    told: list[Told] = []
    began = time.monotonic()
    async with sessions() as session:
        ends = await asyncio.gather(
            *(
                until_answered(session, gateways, plan, told, deadline=began + PATIENCE_S)
                for plan in asked
            )
        )
    result.seconds = round(time.monotonic() - began, 2)
    result.answered = sum(one.acknowledged for one in ends)
    result.left = sum(one.left for one in ends)
    result.refused = sum(one.status == 402 for one in ends)
    result.given_up = len(ends) - result.answered - result.left - result.refused
    result.attempts = len(told)
    result.told_429 = sum(one.status == 429 for one in told)
    result.broken = sum(one.status == 0 for one in told)
    for one in told:
        if one.error:
            name = f"{one.status} {one.error[:60]}"
            result.errors[name] = result.errors.get(name, 0) + 1
    return told


# Meted.


async def kill_houses(
    houses: Houses, rng: random.Random, result: Result, over: asyncio.Event
) -> None:
    """kill -9 of a random house every few seconds, each started again at once, until it is over."""
    end = time.monotonic() + KILLING_S
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), rng.uniform(1.0, 4.0))
        if over.is_set():
            return
        victim = rng.choice(houses.all)
        victim.kill()
        result.kills += 1
        await asyncio.to_thread(victim.start)


async def watch_standing(houses: Houses, result: Result) -> None:
    """Read what houses hold and have spent, as fast as the store tells it, until cancelled."""
    while True:
        now: Standing = await asyncio.to_thread(standing, houses.target, BUDGET)
        result.polls += 1
        result.most_held = max(result.most_held, now.held)
        result.most_spent = max(result.most_spent, now.spent)
        await asyncio.sleep(0.02)


async def run_houses(
    houses: Houses, asked: list[Plan], result: Result, *, kills: bool
) -> list[Told]:
    rng = random.Random(result.seed)
    gateways = [(house.url, house.key) for house in houses.all]
    over = asyncio.Event()
    if not kills:
        over.set()
    watching = asyncio.create_task(watch_standing(houses, result))
    killing = asyncio.create_task(kill_houses(houses, rng, result, over))
    told = await ask_all(gateways, asked, result)
    over.set()
    await killing
    await asyncio.to_thread(houses.wait_settled)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return told


def measure_houses(
    store: str,
    target: str | None,
    scenario: str,
    *,
    clients: int,
    seed: int,
    model: FakeModel,
    kills: bool = True,
    count: int = 4,
) -> Result:
    """One run with houses of its own."""
    asked = plans(clients, seed=seed, leaving_permille=LEAVING_PERMILLE)
    if scenario == "suffices":
        budget = sum(plan.worst for plan in asked)
    else:
        budget = sum(expected_price(plan, model) for plan in asked) // 5
    result = Result(
        gateway="meted", scenario=scenario, store=store, seed=seed, clients=clients, budget=budget
    )
    houses = Houses(count, target, model=model)
    try:
        houses.start()
        houses.set_budget(BUDGET, budget)
        told = asyncio.run(run_houses(houses, asked, result, kills=kills))
        result.most_held = max(result.most_held, standing(houses.target, BUDGET).held)
        houses.stop()
        books = entered(houses.target)
        result.charged = sum(one.price for one in books.values())
        for one in told:
            if one.acknowledged:
                row = books.get(one.request_id)
                result.missing += row is None or row.price != one.price or row.how_often != 1
        houses.check()
        result.check = "ok"
    finally:
        houses.remove()
    return result


# Check, then charge.


class CheckThenCharge:
    """Four fake engines behind one asyncio gateway with its spending in memory, without a lock.

    That is the best case of its kind: no counter is behind another process's. Spending is added
    `lag_s` after a request's end. at_dispatch: it is checked once an engine has a place free, as
    no peer does, and not when the request comes.
    """

    def __init__(self, *, limit: int, lag_s: float, model: FakeModel, at_dispatch: bool) -> None:
        self._places = asyncio.Semaphore(4 * model.max_batch if at_dispatch else 1_000_000)
        self._limit = limit
        self._lag_s = lag_s
        self._step_s = model.decode_us / 1e6
        settings = FakeSettings(early_permille=model.early_permille)
        self._engines = [FakeEngine(max_batch=model.max_batch, manners=settings) for _ in range(4)]
        self._outputs: dict[RequestId, asyncio.Queue[Any]] = {}
        self._next = 0
        self._tasks: set[Any] = set()
        self.spent = 0

    async def steps(self, engine: FakeEngine) -> None:
        while True:
            step = engine.step()
            await asyncio.sleep(self._step_s)
            for output in step.outputs:
                if output.request_id in self._outputs:
                    self._outputs[output.request_id].put_nowait(output)

    def _add(self, price: int) -> None:
        self.spent += price

    async def answer(self, request: Any) -> Any:
        """One chat completion."""

        body = await request.json()
        async with self._places:
            return await self._answer(request, body)

    async def _answer(self, request: Any, body: dict[str, Any]) -> Any:
        from aiohttp import web

        if self.spent >= self._limit:
            return web.json_response(
                {"error": {"code": "budget_exceeded", "message": "the budget is spent"}}, status=402
            )
        self._next += 1
        name, engine = RequestId(f"r-{self._next}"), self._engines[self._next % 4]
        outputs = self._outputs[name] = asyncio.Queue()
        (message,) = body["messages"]
        prompt = ChatPrompt(messages=(Message(role="user", content=message["content"]),))
        sampling = Sampling(max_tokens=body["max_tokens"], temperature=0)
        words = engine.add(EngineRequest(request_id=name, prompt=prompt, sampling=sampling))
        response, tokens, gone = web.StreamResponse(), 0, False
        if body["stream"]:
            await response.prepare(request)
        while True:
            output = await outputs.get()
            tokens += 1
            if body["stream"] and not gone:
                try:
                    await response.write(b'data: {"choices":[]}\n\n')
                except ConnectionResetError:
                    gone = True
                    engine.cancel(name)
            if output.finish_reason is not None:
                break
        del self._outputs[name]
        price = words * INPUT_NANO_USD + tokens * OUTPUT_NANO_USD
        asyncio.get_running_loop().call_later(self._lag_s, self._add, price)
        usage = {"meted_price_usd": usd(price), "meted_cost_usd": "0"}
        if not body["stream"]:
            return web.json_response({"usage": usage})
        if not gone:
            ending = f'data: {{"choices":[],"usage":{json.dumps(usage)}}}\n\ndata: [DONE]\n\n'
            await response.write(ending.encode())
        return response

    async def run(self) -> None:
        """Serve until killed; prints its port, and its spending whenever asked."""
        from aiohttp import web

        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)

        async def spent(request: Any) -> Any:
            return web.json_response({"spent": self.spent, "running": len(self._outputs)})

        app.router.add_get("/spent", spent)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        assert runner.addresses
        print(runner.addresses[0][1], flush=True)
        await asyncio.gather(*(self.steps(engine) for engine in self._engines))


async def serve_check_then_charge(
    limit: int, lag_s: float, model: dict[str, Any], at_dispatch: bool
) -> None:
    gateway = CheckThenCharge(
        limit=limit, lag_s=lag_s, model=FakeModel(**model), at_dispatch=at_dispatch
    )
    await gateway.run()


def measure_check_then_charge(
    lag_s: float, *, clients: int, seed: int, model: FakeModel, at_dispatch: bool
) -> Result:
    asked = plans(clients, seed=seed, leaving_permille=LEAVING_PERMILLE)
    budget = sum(expected_price(plan, model) for plan in asked) // 5
    result = Result(
        gateway=f"check{' late' if at_dispatch else ''}, then charge after {lag_s:g} s",
        scenario="scarce",
        store="memory",
        seed=seed,
        clients=clients,
        budget=budget,
    )
    command = [
        sys.executable,
        __file__,
        "--gateway",
        json.dumps([budget, lag_s, asdict(model), at_dispatch]),
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        result.charged = result.most_spent = asyncio.run(_ask_other(url, asked, result, lag_s))
    finally:
        child.kill()
        child.wait()
    return result


async def _ask_other(url: str, asked: list[Plan], result: Result, lag_s: float) -> int:
    await ask_all([(url, "any")], asked, result)
    async with sessions() as session:
        while True:
            async with session.get(f"{url}/spent") as response:
                now = await response.json()
            if not now["running"]:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(lag_s + 0.5)
        async with session.get(f"{url}/spent") as response:
            return (await response.json())["spent"]


# The report.


def show(results: list[Result]) -> None:
    head = (
        f"{'gateway':<34}{'store':<10}{'scenario':<10}{'answered':>9}{'left':>6}{'402':>6}"
        f"{'gave up':>8}{'429s':>7}{'kills':>6}{'over %':>9}{'unused %':>9}{'missing':>8}{'s':>7}"
    )
    print(head)
    for one in results:
        print(
            f"{one.gateway:<34}{one.store:<10}{one.scenario:<10}{one.answered:>9}{one.left:>6}"
            f"{one.refused:>6}{one.given_up:>8}{one.told_429:>7}{one.kills:>6}"
            f"{100 * one.overshoot / one.budget:>9.2f}{one.unused_percent:>9.2f}"
            f"{one.missing:>8}{one.seconds:>7.1f}"
        )


def is_bad(one: Result) -> bool:
    """Whether a run of Meted's broke what it promises."""
    false_refusals = one.scenario == "suffices" and (one.refused or one.given_up)
    return one.gateway == "meted" and bool(
        one.overshoot or one.missing or false_refusals or one.check != "ok"
    )


def spread(results: list[Result]) -> dict[str, Any]:
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(f"{one.gateway} / {one.store} / {one.scenario}", []).append(one)
    return {
        name: {
            "repeats": len(each),
            "overshoot_percent": _span([100 * r.overshoot / r.budget for r in each]),
            "unused_percent": _span([r.unused_percent for r in each]),
            "refused": _span([float(r.refused) for r in each]),
            "given_up": _span([float(r.given_up) for r in each]),
            "kills": sum(r.kills for r in each),
            "missing": sum(r.missing for r in each),
        }
        for name, each in groups.items()
    }


def _span(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [round(v, 3) for v in (ordered[0], statistics.median(ordered), ordered[-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--scenarios", nargs="*", default=["scarce", "suffices"])
    parser.add_argument("--lags", nargs="*", type=float, default=[0.0, 1.0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--json", type=Path, help="also add all runs to this file, one a line")
    parser.add_argument("--show", type=Path, help="only show the runs in this file")
    parser.add_argument("--gateway", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gateway:
        asyncio.run(serve_check_then_charge(*arguments.gateway))
        return
    if arguments.show:
        lines = [json.loads(line) for line in arguments.show.read_text().splitlines()]
        results = [Result(**line["run"]) for line in lines]
        show(results)
        print(json.dumps({"machine": lines[-1]["machine"], "spread": spread(results)}, indent=1))
        raise SystemExit(1 if any(is_bad(one) for one in results) else 0)
    model = FakeModel()
    facts = machine()
    results = []
    for seed in range(arguments.seed, arguments.seed + arguments.repeats):
        wish = {"clients": arguments.clients, "seed": seed, "model": model}
        with stores(arguments.stores) as each:
            for store, target in each:
                for scenario in arguments.scenarios:
                    one = measure_houses(
                        store, target, scenario, **wish, kills=not arguments.no_kills
                    )
                    results.append(one)
                    print(json.dumps(asdict(one)), file=sys.stderr, flush=True)
        results += [
            measure_check_then_charge(lag_s, **wish, at_dispatch=late)
            for late in (False, True)
            for lag_s in arguments.lags
        ]
    show(results)
    print(json.dumps({"machine": facts, "model": asdict(model), "spread": spread(results)}))
    if arguments.json:
        with arguments.json.open("a") as file:
            for one in results:
                file.write(json.dumps({"machine": facts, "run": asdict(one)}) + "\n")
    raise SystemExit(1 if any(is_bad(one) for one in results) else 0)


if __name__ == "__main__":
    main()
