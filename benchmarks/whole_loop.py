"""One run from a fine-tune to a saving that is billed: train, quantise, roll out, promote.

A real house, `meted ...` as a user types it and the OpenAI door; requests come all the while.
Prints a transcript and a table of steps, and checks what must hold: exit code 1 and a sentence
otherwise. Timings are those of one run beside whatever else the machine does.

    python benchmarks/whole_loop.py --text notes.txt
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from load import Seen, Shape, ask, body, client, quantile
from meted.testing.house import METED, machine
from transcript import LoopError, Transcript, require

MODEL = "smollm2-135m"
TUNED = "manual"
TENANT = "acme"
INTERVAL_S = 1.0


@dataclass(kw_only=True)
class Traffic:
    """Requests at `rate` a second to the deployment `model`, which may change meanwhile."""

    url: str
    key: str
    model: str
    rate: float
    seen: list[Seen] = field(default_factory=list[Seen])

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._come()))
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    async def _come(self) -> None:
        rng, shape = random.Random(1), Shape(prompt_words=(20, 80), answer_tokens=(24, 32))
        began, pending = time.perf_counter(), set[asyncio.Task[None]]()
        async with client(self.key) as session:
            while not self._over.is_set():
                request = body(rng, self.model, shape)
                task = asyncio.create_task(self._one(session, request, began))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(rng.expovariate(self.rate))
            await asyncio.gather(*pending)

    async def _one(
        self, session: aiohttp.ClientSession, request: dict[str, object], began: float
    ) -> None:
        self.seen.append(await ask(session, self.url, request, began))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Of the table. seconds: since the beginning, at its end. nano: by kind, in the books then."""

    name: str
    seconds: float
    nano: dict[str, int]


class Loop:
    """The run: its house, its traffic, its steps. `text` is trained on and judged by."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.home = arguments, folder / "home"
        self.log = Transcript(self.home)
        self.steps: list[Step] = []
        self.house: subprocess.Popen[str] | None = None
        self.traffic: Traffic | None = None
        self.url = ""
        if arguments.home:
            source = arguments.home / "checkpoints" / MODEL
            shutil.copytree(source, self.home / "checkpoints" / MODEL, copy_function=os.link)
        self.config = folder / "meted.yaml"
        self.config.write_text(
            yaml.safe_dump({"deployments": [{"name": MODEL}], "books": {"interval_s": INTERVAL_S}})
        )

    def run(self) -> None:
        """All steps; raises LoopError at the first thing that does not hold."""
        self._up()
        self._end_step("house up")
        self._train()
        self._end_step("fine-tune")
        self._deploy()
        self._end_step("deploy the fine-tune")
        variant = self._quantise()
        self._end_step("quantise and gate")
        self._roll_out(variant)
        self._end_step("canary and comparison")
        self._served(variant)
        self._end_step("promoted: served and billed")

    def close(self) -> None:
        """End clients and the house, which answers what runs."""
        if self.traffic:
            self.traffic.stop()
        if self.house:
            self.house.terminate()
            self.house.wait(timeout=120)

    def _up(self) -> None:
        self.log.say("$ meted up --home HOME --port 0 --config meted.yaml")
        words = ["up", "--home", str(self.home), "--port", "0", "--config", str(self.config)]
        errors = self.home.parent / "up.log"
        with errors.open("w") as log:
            self.house = subprocess.Popen(
                [*METED, *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.house.stdout is not None
        for line in self.house.stdout:
            if found := re.match(r"address +(http://\S+)/v1", line):
                self.url = found[1]
                break
        require(self.url, f"`meted up` ended without an address: {errors.read_text()[-2000:]}")
        self.log.say(f"  the house answers at {self.url}/v1")
        self.log.meted("rates", "set", "--by-cost", "--markup", "10%")
        key = self.log.asked("keys", "create", "--tenant", TENANT)["secret"]
        self.log.say(f"$ meted keys create --tenant {TENANT}")
        self.key = key
        self.traffic = Traffic(url=self.url, key=key, model=MODEL, rate=self.arguments.quiet_rate)
        self.log.say(f"  {self.arguments.quiet_rate:g} requests a second come from here on")

    def _train(self) -> None:
        self.log.meted(
            *("train", "--model", MODEL, "--data", str(self.arguments.text), "--name", TUNED),
            *("--steps", str(self.arguments.steps), "--batch-tokens", "512"),
            *("--eval-every", str(self.arguments.steps), "--tenant", TENANT),
        )
        tuned = self._checkpoint(TUNED)
        require(
            [one["parent"] for one in tuned["lineage"]] == [MODEL],
            f"checkpoint {TUNED!r} has the lineage {tuned['lineage']}, expected {MODEL!r} alone",
        )

    def _deploy(self) -> None:
        assert self.traffic is not None
        self.log.meted("deploy", TUNED)
        self.traffic.model = TUNED
        self.log.say(f"  clients ask for {TUNED!r} from here on")
        self.log.meted("undeploy", MODEL)

    def _quantise(self) -> str:
        """The first variant that passed; what did not pass stays on record."""
        self.log.meted(
            *("optimise", "model", TUNED, "--data", str(self.arguments.text)),
            *("--levers", self.arguments.levers, "--blocks", "24", "--questions", "20"),
        )
        names = {one["name"] for one in self.log.asked("models")}
        made = [f"{TUNED}--{one}" for one in self.arguments.levers.split(",")]
        passed = [name for name in made if name in names]
        require(passed, f"of {made} none passed its gate; `meted models` knows {sorted(names)}")
        variant = self._checkpoint(passed[0])
        parents = [one["parent"] for one in variant["lineage"]]
        require(
            parents == [MODEL, TUNED],
            f"the lineage of {passed[0]!r} is {parents}, expected {[MODEL, TUNED]}",
        )
        require(
            variant["quality"]["passed"], f"{passed[0]!r} is registered but its gate is not passed"
        )
        return passed[0]

    def _roll_out(self, variant: str) -> None:
        assert self.traffic is not None
        given, self.traffic.rate = self.arguments, self.arguments.rate
        self.log.say(f"  {given.rate:g} requests a second come from here on")
        self.log.meted(
            *("rollout", "start", TUNED, "--checkpoint", variant, "--settings", "threads=1"),
            *("--predicted", "0.4", "--block", f"{given.block:g}", "--washout", "1"),
            *("--blocks", str(given.blocks), "--watch"),
        )
        found = self.log.asked("rollout", "show", TUNED)
        require(
            found["phase"] == "promoted" and found["status"] == "verified",
            f"the rollout ended {found['phase']}, {found['status']}: {found['reason']}",
        )

    def _served(self, variant: str) -> None:
        promoted = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        self._ask()
        time.sleep(self.arguments.after)
        deployments = self.log.asked("status")["deployments"]
        found = [(one["public"], one["checkpoint"]) for one in deployments]
        require(found == [(TUNED, variant)], f"{found} is deployed, expected {variant!r} only")
        self.log.say(f"  deployments, by `meted status --json`: {TUNED} serves {variant}")
        self.log.meted("savings")
        self._receipt()
        self.log.meted("bill")
        self.log.meted("bill", "--by", "deployment", "--tenant", TENANT)
        self._billed(promoted)
        checked = self.log.meted("bill", "--check", quiet=True)
        verdict = checked.splitlines()[0]
        self.log.say(f"  {verdict}")
        require(verdict.endswith("everything adds up"), f"the books say: {checked}")

    def _ask(self) -> None:
        """One request as a client puts it; the answer has the deployment's name."""
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            data=json.dumps(
                {"model": TUNED, "prompt": "The systemd program", "max_tokens": 24}
                | {"temperature": 0}
            ).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        self.log.say(f"POST /v1/completions  model {TUNED}, 'The systemd program'")
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.loads(reply.read())
        self.log.say(f"  {answer['model']}: {answer['choices'][0]['text']!r}")
        self.log.say(f"  usage: {json.dumps(answer['usage'])}")
        require(answer["model"] == TUNED, f"the answer is of {answer['model']!r}, not {TUNED!r}")
        charged = answer["usage"].get("meted_price_usd", "0")
        require(float(charged) > 0, f"the answer was charged ${charged}, expected more than $0")

    def _receipt(self) -> None:
        receipt = self.log.asked("savings")["receipts"][-1]
        require(
            receipt["status"] == "verified" and receipt["measured"]["low"] > 0,
            f"the receipt is {receipt['status']}: {receipt['reason']}",
        )
        require(receipt["tokens_since"] > 0, "no token was served since the promotion")

    def _billed(self, since: str) -> None:
        """Requests that came after the promotion are charged, and to the tenant."""
        words = ("bill", "--by", "deployment", "--by", "kind", "--tenant", TENANT, "--from", since)
        rows = self.log.asked(*words)["rows"]
        charged = [one for one in rows if one["kind"] == "request" and one["price_nano_usd"] > 0]
        require(charged, f"no request is charged after the promotion at {since}: {rows}")

    def _checkpoint(self, name: str) -> dict[str, Any]:
        found = {one["name"]: one for one in self.log.asked("models")}
        require(name in found, f"checkpoint {name!r} does not exist, only {sorted(found)}")
        return found[name]

    def _end_step(self, name: str) -> None:
        """Once the interval that ran has closed, as the books tell no open one."""
        seconds = self.log.seconds
        time.sleep(1.5 * INTERVAL_S)
        rows = self.log.asked("bill")["rows"]
        kinds = {one["kind"]: one["nano_usd"] for one in rows}
        self.steps.append(Step(name=name, seconds=seconds, nano=kinds))


def table(steps: Sequence[Step]) -> None:
    """What each step took and what the books have for it, in dollars by kind."""
    kinds = ("request", "training", "loading", "overhead", "idle")
    print(f"\n{'step':30}{'seconds':>9}" + "".join(f"{kind:>13}" for kind in kinds))
    before = Step(name="", seconds=0, nano={})
    for step in steps:
        spent = [step.nano.get(kind, 0) - before.nano.get(kind, 0) for kind in kinds]
        print(f"{step.name:30}{step.seconds - before.seconds:9.1f}", end="")
        print("".join(f"{amount / 1e9:13.9f}" for amount in spent))
        before = step
    print(f"{'all':30}{before.seconds:9.1f}", end="")
    print("".join(f"{before.nano.get(kind, 0) / 1e9:13.9f}" for kind in kinds))


def clients(seen: Sequence[Seen]) -> None:
    """What the clients noticed. Raises LoopError if one of them got an error."""
    failed = [one.error for one in seen if one.error]
    ttft = [one.ttft * 1e3 for one in seen if not one.error]
    print(f"\nclients: {len(seen)} requests, {len(failed)} errors", end="")
    print(f", TTFT p50 {quantile(ttft, 0.5):.0f} ms, p95 {quantile(ttft, 0.95):.0f} ms")
    require(not failed, f"{len(failed)} requests failed, the first with: {failed[:1]}")


def main() -> None:
    """Parse, run, show; exit code 1 if something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="what is trained on")
    parser.add_argument("--home", type=Path, help="a home whose built-in checkpoint is linked")
    parser.add_argument("--steps", type=int, default=16, help="of training, 512 tokens each")
    parser.add_argument("--levers", default="int8-sym,int4-g64")
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second, compared")
    parser.add_argument("--quiet-rate", type=float, default=0.5, help="before the comparison")
    parser.add_argument("--block", type=float, default=10.0, help="seconds of a turn")
    parser.add_argument("--blocks", type=int, default=24, help="turns at most")
    parser.add_argument("--after", type=float, default=20.0, help="seconds after promotion")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meted-loop-") as folder:
        loop = Loop(arguments, Path(folder))
        fault = ""
        try:
            loop.run()
        except LoopError as error:
            fault = str(error)
        finally:
            loop.close()
        table(loop.steps)
        try:
            clients(loop.traffic.seen if loop.traffic else [])
        except LoopError as error:
            fault = fault or str(error)
    print(f"machine: {json.dumps(machine())}")
    print(fault or "all of it holds")
    sys.exit(1 if fault else 0)


if __name__ == "__main__":
    main()
