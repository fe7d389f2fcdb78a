"""Each live policy under the same load: its decisions, and what clients and training get.

A house for each policy, one after another on one machine: the same open-loop Poisson arrivals and
lengths, beside an endless training job. First, in a house without a job: the capacity that 16
closed-loop clients measure, of which `--load` is offered, and the latencies of that load alone.
Decisions: how often the job's way of harvesting changed in the phase, and to what.

    python benchmarks/live_policies.py --policies static,demand,performance --seconds 40
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from corun import MODEL, SHAPE, corpus, kinds, spec, told
from load import closed_loop, open_loop
from meted.testing.house import RealHouse, machine, shared_checkpoints

POLL_S = 4.0
JOB = "corun"


class Decisions:
    """Reasons that a house gives, each once, while they are watched."""

    def __init__(self, house: RealHouse) -> None:
        self._house = house
        self.since = time.time()
        self.seen: dict[tuple[float, str], None] = {}

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        for one in self._house.admin("status")["decisions"]:
            if one["at"] >= self.since:
                self.seen[one["at"], one["reason"]] = None

    def harvests(self) -> dict[str, int]:
        """How often the job was told to harvest in each way."""
        prefix = f"{JOB}: "
        return dict(
            Counter(
                reason.removeprefix(prefix).partition(";")[0]
                for _, reason in self.seen
                if reason.startswith(prefix)
            )
        )


async def phase(house: RealHouse, name: str, rate: float, words: int, seconds: float) -> Any:
    """The load once, with what was decided and used meanwhile."""
    decisions = Decisions(house)
    watching = asyncio.create_task(decisions.watch())
    before, began = kinds(house), time.perf_counter()
    seen = await open_loop(
        url=house.url,
        key=house.key,
        model=MODEL,
        shape=SHAPE,
        rate=rate,
        seconds=seconds,
        seed=3,
        words_seed=words,
    )
    took = time.perf_counter() - began
    decisions.look()
    watching.cancel()
    await asyncio.sleep(2.5)
    used = {kind: value - before[kind] for kind, value in kinds(house).items()}
    return told(name, seen) | {
        "took_s": took,
        "device_seconds": used,
        "decisions": len(decisions.seen),
        "harvests": decisions.harvests(),
        "last": [reason for _, reason in decisions.seen][-2:],
    }


def config(policy: str) -> dict[str, Any]:
    return {
        "policy": {"name": policy},
        "deployments": [{"name": MODEL, "checkpoint": MODEL, "max_queue": 256}],
        "books": {"interval_s": 1.0},
    }


async def alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """The capacity, and the load without a job."""
    with RealHouse(config=config("demand"), cache=shared_checkpoints()) as house:
        ask = {"url": house.url, "key": house.key, "model": MODEL, "shape": SHAPE}
        await closed_loop(**ask, concurrency=4, seconds=5, seed=1)
        full = await closed_loop(**ask, concurrency=16, seconds=15, seed=2)
        capacity = len([s for s in full if not s.error]) / max(s.at + s.e2e for s in full)
        rate = arguments.load * capacity
        row = await phase(house, "alone", rate, 0, arguments.seconds)
        return {"capacity": capacity, "rate": rate, "row": row}


async def beside(policy: str, rate: float, words: int, arguments: argparse.Namespace) -> Any:
    """The load beside a training job, under a policy."""
    with RealHouse(config=config(policy), cache=shared_checkpoints()) as house:
        house.admin("jobs", "POST", asdict(spec(JOB, corpus(house.home))))
        house.wait_until(
            "the job trains", lambda: house.admin(f"jobs/{JOB}")["step"] >= 5, patience_s=90
        )
        await asyncio.sleep(arguments.settle)
        before = house.admin(f"jobs/{JOB}")["step"]
        row = await phase(house, policy, rate, words, arguments.seconds)
        row["steps"] = house.admin(f"jobs/{JOB}")["step"] - before
        house.admin(f"jobs/{JOB}/cancel", "POST")
        house.stop()
        row["check"] = house.meted("bill", "--check").strip().splitlines()[-1]
        return row


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    first = await alone(arguments)
    rows = [first["row"]]
    for number, policy in enumerate(arguments.policies.split(","), start=1):
        rows.append(await beside(policy, first["rate"], number, arguments))
    return {"machine": machine(), "arguments": vars(arguments), **first, "rows": rows}


def show(result: dict[str, Any]) -> None:
    """A plain table."""
    print(f"machine: {result['machine']}")
    print(f"capacity {result['capacity']:.2f} requests/s, offered {result['rate']:.2f}/s")
    columns = [f"{metric}_ms_p{share}" for metric in ("ttft", "tpot") for share in (50, 95)]
    head = (*columns, "tokens/s", "steps/s", "training s", "idle s", "decisions")
    print(f"{'policy':13}{'req':>5}{'err':>4}" + "".join(f"{one:>12}" for one in head))
    for row in result["rows"]:
        values = [f"{row[one]:.1f}" for one in columns]
        used = row["device_seconds"]
        values += [
            f"{row['tokens_per_second']:.1f}",
            f"{row.get('steps', 0) / row['took_s']:.2f}",
            f"{used.get('training', 0.0):.1f}",
            f"{used.get('idle', 0.0):.1f}",
            str(row["decisions"]),
        ]
        print(f"{row['phase']:13}{row['requests']:5}{row['errors']:4}", end="")
        print("".join(f"{one:>12}" for one in values), row["harvests"])
    for row in result["rows"]:
        print(row["phase"], *row["last"], row.get("check", ""), sep="\n    ")


def main() -> None:
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", default="static,demand,performance")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--settle", type=float, default=8)
    parser.add_argument("--load", type=float, default=0.4, help="share of capacity")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments))
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
