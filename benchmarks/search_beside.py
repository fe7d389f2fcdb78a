"""What clients notice of searches that run as jobs beside them, and what these get done meanwhile.

One house, one open-loop Poisson load of a share of its capacity, the same arrivals in each phase:
alone, beside a search of serving, beside a search of variants. Latencies are the clients'; device
time is the house's own books. A search that ends early is handed in again under another name, so
that every phase is beside one to its end.

    python benchmarks/search_beside.py --seconds 120 --load 0.2
"""

import argparse
import asyncio
import time
from typing import Any

from corun import MODEL, SHAPE, corpus, kinds, told
from load import closed_loop, open_loop
from meted.testing.house import RealHouse, machine, shared_checkpoints

TENANT = "lab"
LEVERS = ["gguf-q8_0", "gguf-q5_1", "gguf-q5_0", "gguf-q4_1", "gguf-q4_0", "int8-sym", "int4-g64"]


def spec_of(kind: str, number: int, data: str) -> dict[str, Any]:
    """A search that does not end within minutes."""
    common = {
        "kind": kind,
        "name": f"{kind}-{number}",
        "base": MODEL,
        "data": data,
        "tenant": TENANT,
    }
    if kind == "variants":
        return {**common, "levers": LEVERS, "blocks": 40, "seed": number}
    return {
        **common,
        "traffic": "rate=2,input=100,output=30",
        "requests": 24,
        "effort": 50.0,
        "seed": number,
    }


async def keep_searching(house: RealHouse, kind: str, data: str, over: asyncio.Event) -> int:
    """One search after the other until told; how many steps they made durable."""

    async def ask(*what: Any) -> Any:
        """Beside the clients, whose clock it would stop."""
        return await asyncio.to_thread(house.admin, *what)

    steps, number = 0, 0
    while not over.is_set():
        number += 1
        name = f"{kind}-{number}"
        await ask("jobs", "POST", spec_of(kind, number, data))
        job = await ask(f"jobs/{name}")
        while not over.is_set() and job["status"] not in ("done", "failed"):
            await asyncio.sleep(0.5)
            job = await ask(f"jobs/{name}")
        if job["status"] == "failed":
            raise RuntimeError(job["error"])
        steps += job["step"]
        if job["status"] != "done":
            await ask(f"jobs/{name}/cancel", "POST")
    return steps


async def begun(house: RealHouse, kind: str) -> None:
    """Until a search of this kind has loaded and is at work."""
    while True:
        jobs = [
            one
            for one in (await asyncio.to_thread(house.admin, "jobs"))
            if one["name"] == f"{kind}-1"
        ]
        if jobs and jobs[0]["phase"] == "evaluate":
            return
        await asyncio.sleep(0.5)


async def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    config = {
        "policy": {"name": given.policy},
        "deployments": [{"name": MODEL, "checkpoint": MODEL, "max_queue": 256}],
        "books": {"interval_s": 1.0},
    }
    rows: list[dict[str, Any]] = []
    with RealHouse(config=config, cache=shared_checkpoints()) as house:
        data = str(corpus(house.home))
        ask = {"url": house.url, "key": house.key, "model": MODEL, "shape": SHAPE}
        await closed_loop(**ask, concurrency=4, seconds=10, seed=1)
        full = await closed_loop(**ask, concurrency=16, seconds=20, seed=2)
        capacity = len([s for s in full if not s.error]) / max(s.at + s.e2e for s in full)
        print(f"machine: {machine()}; capacity {capacity:.2f} requests/s", flush=True)

        async def phase(name: str) -> dict[str, Any]:
            before, started = kinds(house), time.perf_counter()
            seen = await open_loop(
                **ask, rate=given.load * capacity, seconds=given.seconds, seed=3,
                words_seed=len(rows),
            )  # fmt: skip
            await asyncio.sleep(2.5)
            used = {kind: value - before[kind] for kind, value in kinds(house).items()}
            return told(name, seen) | {"used": used, "wall": time.perf_counter() - started}

        rows.append(await phase("alone"))
        for kind in ("serving", "variants"):
            over = asyncio.Event()
            searching = asyncio.create_task(keep_searching(house, kind, data, over))
            await begun(house, kind)
            row = await phase(f"beside {kind}")
            over.set()
            rows.append(row | {"steps": await searching})
            await asyncio.sleep(15)
        house.stop()
        print(house.meted("bill", "--check").strip().splitlines()[-1])
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    alone = rows[0]
    columns = [f"{metric}_ms_p{share}" for metric in ("ttft", "tpot") for share in (50, 90, 95)]
    print("| phase | requests | " + " | ".join(columns) + " | jobs' share of all | idle | steps |")
    for row in rows:
        total = sum(row["used"].values())
        cells = [f"{row[one]:.0f} (x{row[one] / alone[one]:.2f})" for one in columns]
        print(
            f"| {row['phase']} | {row['requests']}, {row['errors']} failed | "
            + " | ".join(cells)
            + f" | {row['used'].get('training', 0.0) / total:.1%} | "
            f"{row['used']['idle'] / total:.1%} | {row.get('steps', '')} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="demand")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--load", type=float, default=0.2, help="share of capacity")
    show(asyncio.run(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
