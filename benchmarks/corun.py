"""Serving and training on the same cores: alone, under Meted, and as a naive second process.

Four phases of equal length on one machine, in one run:
  train   the trainer has the machine to itself: its steps per second
  (a)     an open-loop Poisson load, serving alone
  (b)     the same arrivals, with the trainer under Meted
  (c)     the same arrivals, with the trainer as a plain second process (the naive pool)
The load is a share of the capacity that a closed loop of 16 clients measured first. Latencies are
the clients'. The harvest is training steps in (b) over what the idle core-seconds of (a) would
allow: idle share of (a) x steps per second of a trainer alone.

    python benchmarks/corun.py --policy demand --seconds 180
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load import Seen, Shape, closed_loop, open_loop, quantile
from meted.domain.job import TrainingSpec
from meted.domain.units import JobName, TenantName
from meted.live.host import Urgency, WorkerEnd, WorkerSpec
from meted.live.local_host import LocalHost
from meted.live.wire import FromTrainer, Stop, Trained
from meted.testing.house import RealHouse, machine, shared_checkpoints

MODEL = "smollm2-135m"
SHAPE = Shape()


def corpus(folder: Path) -> Path:
    """Text to train on: this Python's own library sources, which every machine has."""
    import pydoc_data.topics as topics

    text = "\n\n".join(topics.topics.values())
    path = folder / "corpus.txt"
    path.write_text(text)
    return path


def spec(name: str, data: Path) -> TrainingSpec:
    """Endless small steps, so that a count of steps is a fine measure."""
    return TrainingSpec(
        name=JobName(name),
        base=MODEL,
        data=str(data),
        tenant=TenantName("bench"),
        steps=1_000_000,
        sequence_tokens=128,
        micro_batch=2,
        batch_tokens=256,
        eval_every=1_000_000,
        checkpoint_every=200,
        held_out=0.02,
    )


class PlainTrainer:
    """The same trainer as an ordinary process: no class, no gaps, no house."""

    def __init__(self, checkpoints: Path, data: Path, devices: tuple[int, ...]) -> None:
        self.checkpoints, self.data, self.devices = checkpoints, data, devices
        self.trained: list[tuple[float, int]] = []
        self.ended = asyncio.Event()
        self.folder = tempfile.TemporaryDirectory(prefix="meted-plain-")

    async def start(self) -> None:
        """Start, and wait for the first steps."""
        folder = Path(self.folder.name)
        host = LocalHost(folder)
        arguments = (
            *("-m", "meted.live.job_worker", "--fd", "{fd}"),
            *("--spec", json.dumps(asdict(spec("plain", self.data)))),
            *("--registry", str(self.checkpoints), "--workdir", str(folder / "job")),
            *("--threads", str(len(self.devices))),
        )
        self.worker = await host.start(
            WorkerSpec(
                id="plain",
                arguments=arguments,
                devices=self.devices,
                urgency=Urgency.NORMAL,
                incoming=FromTrainer,
            ),
            self._message,
            self._end,
        )
        while len(self.trained) < 5:
            if self.ended.is_set():
                raise RuntimeError((folder / "plain.log").read_text()[-2000:])
            await asyncio.sleep(0.05)

    def _message(self, message: Any) -> None:
        if isinstance(message, Trained):
            self.trained.append((time.perf_counter(), message.step))

    def _end(self, end: WorkerEnd) -> None:
        self.ended.set()

    def steps_between(self, start: float, end: float) -> float:
        """Steps finished in a stretch of time."""
        return sum(1 for at, _ in self.trained if start <= at < end)

    async def stop(self) -> None:
        """End it."""
        self.worker.send(Stop())
        try:
            await asyncio.wait_for(self.ended.wait(), 20)
        except TimeoutError:
            self.worker.kill()
            await self.ended.wait()


def told(name: str, seen: list[Seen]) -> dict[str, Any]:
    """A phase's latencies in milliseconds."""
    good = [one for one in seen if not one.error]
    row: dict[str, Any] = {
        "phase": name,
        "requests": len(seen),
        "errors": len(seen) - len(good),
        "tokens_per_second": sum(s.tokens for s in good) / max(s.at + s.e2e for s in good),
    }
    for metric in ("ttft", "tpot"):
        values = [getattr(one, metric) * 1000 for one in good]
        for share in (50, 90, 95, 99):
            row[f"{metric}_ms_p{share}"] = quantile(values, share / 100)
    return row


def kinds(house: RealHouse) -> dict[str, float]:
    """Device-seconds by kind since the house began."""
    totals = house.admin("timeline")["totals"]
    return {kind: value["device_seconds"] for kind, value in totals.items()}


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All phases."""
    checkpoints = shared_checkpoints()
    config = {
        "policy": {"name": arguments.policy, "parameters": arguments.parameters},
        "deployments": [{"name": MODEL, "checkpoint": MODEL, "max_queue": 256}],
        "books": {"interval_s": 1.0},
    }
    result: dict[str, Any] = {"machine": machine(), "policy": arguments.policy, "phases": []}
    with RealHouse(config=config, cache=checkpoints) as house:
        data = corpus(house.home)
        devices = tuple(house.admin("status")["pool"]["devices"])
        ask = {"url": house.url, "key": house.key, "model": MODEL, "shape": SHAPE}
        await closed_loop(**ask, concurrency=4, seconds=10, seed=1)
        full = await closed_loop(**ask, concurrency=16, seconds=30, seed=2)
        capacity = len([s for s in full if not s.error]) / max(s.at + s.e2e for s in full)
        rate = arguments.load * capacity
        result["capacity_requests_per_second"] = capacity
        result["rate"] = rate

        async def phase(name: str) -> dict[str, Any]:
            before, began = kinds(house), time.perf_counter()
            # Equal arrivals and lengths in each phase, but new words: no phase finds another's
            # prompts in the prefix cache.
            words = len(result["phases"])
            seen = await open_loop(
                **ask, rate=rate, seconds=arguments.seconds, seed=3, words_seed=words
            )
            ended = time.perf_counter()
            await asyncio.sleep(2.5)
            used = {k: v - before[k] for k, v in kinds(house).items()}
            row = told(name, seen) | {"began": began, "ended": ended, "device_seconds": used}
            result["phases"].append(row)
            return row

        alone = await phase("(a) alone")

        plain = PlainTrainer(house.home / "checkpoints", data, devices)
        await plain.start()
        began = time.perf_counter()
        await asyncio.sleep(arguments.alone_seconds)
        steps_alone = plain.steps_between(began, time.perf_counter()) / arguments.alone_seconds
        result["steps_per_second_alone"] = steps_alone

        naive = await phase("(c) naive")
        naive["steps"] = plain.steps_between(naive["began"], naive["ended"])
        await plain.stop()

        house.admin("jobs", "POST", asdict(spec("corun", data)))
        while house.admin("jobs/corun")["step"] < 5:
            await asyncio.sleep(0.5)
        await asyncio.sleep(arguments.settle)
        step_before = house.admin("jobs/corun")["step"]
        meted = await phase("(b) Meted")
        meted["steps"] = house.admin("jobs/corun")["step"] - step_before
        result["decisions"] = [d["reason"] for d in house.admin("status")["decisions"]][-5:]
        house.admin("jobs/corun/cancel", "POST")
        house.stop()
        result["check"] = house.meted("bill", "--check").strip().splitlines()[-1:]

    used = alone["device_seconds"]
    idle_share = used["idle"] / sum(used.values())
    result["idle_share_alone"] = idle_share
    for row in (naive, meted):
        length = row["ended"] - row["began"]
        row["steps_per_second"] = row["steps"] / length
        row["harvest"] = row["steps_per_second"] / (idle_share * steps_alone)
        for metric in ("ttft", "tpot"):
            for share in (50, 95, 99):
                key = f"{metric}_ms_p{share}"
                row[f"{key}_x"] = row[key] / alone[key]
    return result


def show(result: dict[str, Any]) -> None:
    """A plain table."""
    print(f"machine: {result['machine']}")
    print(
        f"capacity {result['capacity_requests_per_second']:.2f} requests/s, "
        f"load {result['rate']:.2f}/s, policy {result['policy']}; "
        f"trainer alone {result['steps_per_second_alone']:.2f} steps/s; "
        f"idle share of (a) {result['idle_share_alone']:.1%}"
    )
    columns = [f"{m}_ms_p{q}" for m in ("ttft", "tpot") for q in (50, 95, 99)]
    print(f"{'phase':12}{'req':>6}{'err':>5}" + "".join(f"{c:>14}" for c in columns), end="")
    print(f"{'steps/s':>9}{'harvest':>9}")
    for row in result["phases"]:
        print(f"{row['phase']:12}{row['requests']:6}{row['errors']:5}", end="")
        for column in columns:
            ratio = f" x{row[f'{column}_x']:.2f}" if f"{column}_x" in row else ""
            print(f"{row[column]:8.1f}{ratio:6}", end="")
        print(f"{row.get('steps_per_second', 0):9.2f}{row.get('harvest', 0):9.1%}")
    print("last decisions:", *result["decisions"], sep="\n  ")
    print("books:", *result["check"])


def main() -> None:
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="demand")
    parser.add_argument("--parameters", type=json.loads, default={})
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--alone-seconds", type=float, default=45)
    parser.add_argument("--settle", type=float, default=10)
    parser.add_argument("--load", type=float, default=0.4, help="share of capacity")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    if arguments.json:
        json.dump(result, sys.stdout, indent=1)
        print()
    else:
        show(result)


if __name__ == "__main__":
    main()
