"""Variants and settings of SmolLM2 on this machine: all measured once, then searched for.

    python benchmarks/serving_levers.py TEXT --home FOLDER all --keep table.json
    python benchmarks/serving_levers.py TEXT --home FOLDER search --keep table.json [--effort 6]

TEXT: a file or folder, such as Debian's reference manual; prompts are cut from it. FOLDER: a home
in which `meted optimise model` has made the variants. `all` measures every configuration of the
grid on the whole traffic, in an order drawn by the seed, and keeps each as it comes: what the table
has is not measured again. `search` runs
the product's search afresh on the same traffic, then looks its answer up in the table: how much
dearer than the cheapest feasible one it is there, and what it cost to find. A chat's traffic: one
system prompt of 96 tokens, lengths log-normal, Poisson arrivals. Quiet cores only: the largest
share that other processes used is printed.
"""

import argparse
import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from meted.domain.deployment import SLO
from meted.domain.search_job import ServingSearch
from meted.domain.units import JobName, Micros, TenantName
from meted.live.checkpoints import CheckpointRegistry
from meted.live.config import load_config
from meted.live.home import Home, find_home
from meted.live.local_host import LocalHost
from meted.live.tuning.measuring import Measurer
from meted.live.tuning.searching import search_serving
from meted.live.tuning.session import Machine, Prepared, arrivals_of, prepare
from meted.optimise.search_values import Measured

SHARED = 96
LIMITS = SLO(ttft_p95=Micros(2_000_000), tpot_p95=Micros(100_000))
CLOSE = 0.03


def write_traffic(path: Path, *, requests: int, rate: float, seed: int) -> None:
    """A chat's requests as a CSV that `--traffic` takes."""
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(1 / rate, requests))
    prompts = SHARED + np.clip(rng.lognormal(np.log(90), 0.6, requests), 8, 600).astype(int)
    outputs = np.clip(rng.lognormal(np.log(40), 0.5, requests), 4, 160).astype(int)
    rows = [
        f"{moment:.6f},{prompt},{output},{SHARED if place else 0}"
        for place, (moment, prompt, output) in enumerate(zip(at, prompts, outputs, strict=True))
    ]
    path.write_text("\n".join(["seconds,prompt_tokens,output_tokens,cached_tokens", *rows]) + "\n")


def prepared(given: argparse.Namespace) -> Prepared:
    home = find_home(given.home)
    traffic = Path(given.home) / "traffic.csv"
    write_traffic(traffic, requests=given.requests, rate=given.rate, seed=given.seed)
    spec = ServingSearch(
        name=JobName("levers"),
        base=given.checkpoint,
        data=str(given.text),
        tenant=TenantName("default"),
        traffic=str(traffic),
        slo=LIMITS,
        requests=given.requests,
        effort=given.effort,
        variants=tuple(given.variants) if given.variants else None,
        drafts=tuple(given.drafts),
        seed=given.seed,
    )
    machine = machine_of(home)
    return prepare(spec, arrivals_of(spec, machine.registry, lambda: []), machine)


def machine_of(home: Home) -> Machine:
    pool = load_config().pool
    return Machine(
        registry=CheckpointRegistry(home.checkpoints),
        calibrations=home.calibrations,
        devices=pool.indices,
        price=pool.price.nano_usd_per_device_hour,
    )


def make_measurer(given: argparse.Namespace, ready: Prepared) -> Measurer:
    home = find_home(given.home)
    machine = machine_of(home)
    return Measurer(
        host=LocalHost(home.logs),
        checkpoints=home.checkpoints,
        traffic=ready.traffic,
        devices=machine.devices,
        price=machine.price,
    )


def feasible(row: dict[str, Any]) -> bool:
    return (
        row["cost"] is not None
        and row["infeasible"] is None
        and row["ttft_p95_s"] <= LIMITS.ttft_p95 / 1e6
        and (row["tpot_p95_s"] or 0.0) <= LIMITS.tpot_p95 / 1e6
    )


def row_of(found: Measured, infeasible: str | None, seconds: float) -> dict[str, Any]:
    return {
        "key": found.key,
        "cost": found.cost,
        "ttft_p95_s": found.ttft_p95_s,
        "tpot_p95_s": found.tpot_p95_s,
        "refused": found.refused,
        "infeasible": infeasible,
        "nano_usd": found.spent,
        "seconds": seconds,
    }


async def measure_all(given: argparse.Namespace, ready: Prepared) -> None:
    """The ground truth."""
    measurer = make_measurer(given, ready)
    order = list(ready.configurations)
    random.Random(given.seed).shuffle(order)
    known = {one.key: one.infeasible for one in ready.search.candidates}
    rows: list[dict[str, Any]] = json.loads(given.keep.read_text()) if given.keep.exists() else []
    kept, others = {row["key"] for row in rows}, 0.0
    for one in order:
        if str(one) in kept:
            continue
        began = time.monotonic()
        found = await measurer.measure(one, 1.0)
        others = max(others, measurer.others)
        rows.append(row_of(found, known[str(one)], time.monotonic() - began))
        told = found.refused or f"${found.cost:.5f}, TTFT p95 {found.ttft_p95_s:.3f} s"
        print(f"{len(rows):2d}/{len(order)} {one}: {told}", flush=True)
        given.keep.write_text(json.dumps(rows, indent=1))
    show(rows, str(ready.default))
    spent = sum(row["nano_usd"] for row in rows) / 1e9
    print(f"others used up to {others:.0%} of the cores; ${spent:.6f} spent")


def show(rows: list[dict[str, Any]], default: str) -> None:
    """Cheapest first; dollars against the default's."""
    base = next(row["cost"] for row in rows if row["key"] == default)
    for row in sorted(rows, key=lambda one: one["cost"] or np.inf):
        if row["cost"] is None:
            print(f"| {row['key']} | - | - | - | - | {row['refused']} |")
            continue
        why = row["infeasible"] or ("" if feasible(row) else "misses the SLO")
        print(
            f"| {row['key']} | {row['cost']:.5f} | {row['cost'] / base - 1:+.1%} | "
            f"{row['ttft_p95_s'] * 1e3:.0f} | {(row['tpot_p95_s'] or 0) * 1e3:.1f} | {why} |"
        )


async def search(given: argparse.Namespace, ready: Prepared) -> None:
    """The product's search, judged by the table."""
    rows = json.loads(given.keep.read_text())
    table = {row["key"]: row for row in rows}
    best = min((row for row in rows if feasible(row)), key=lambda row: row["cost"])
    measurer = make_measurer(given, ready)
    found = await search_serving(
        ready.search,
        ready.configurations,
        measurer,
        watch=lambda ask, measured, _: print(f"  {ask.reason}: {measured.key} {measured.cost}"),
    )
    for one in found.answer.rejected:
        print(f"rejected {one.key}: {one.reason}")
    if found.chosen is None:
        print("nothing feasible was found")
        return
    chosen = table[str(found.chosen)]
    whole = sum(row["nano_usd"] for row in rows)
    dearer = chosen["cost"] / best["cost"] - 1
    verdict = "within" if feasible(chosen) and dearer <= CLOSE else "NOT within"
    print(
        f"chosen {found.chosen}: ${chosen['cost']:.5f} in the table, {dearer:+.1%} over the "
        f"cheapest feasible, {best['key']} at ${best['cost']:.5f}: {verdict} {CLOSE:.0%}; "
        f"effort {found.answer.effort:.2f} of {len(rows)} measurements, dollars "
        f"{found.answer.dollars / whole:.1%} of the exhaustive ones; {found.disturbed} "
        f"measurements were believed though others disturbed them; {found.answer.stopped}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("what", choices=("all", "search", "show"))
    parser.add_argument("--home", required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--checkpoint", default="smollm2-135m")
    parser.add_argument("--variants", nargs="*", help="default: all that were made of it")
    parser.add_argument("--drafts", nargs="*", default=[])
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5)
    parser.add_argument("--effort", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "show":
        show(json.loads(given.keep.read_text()), given.checkpoint)
        return
    ready = prepared(given)
    print(f"{len(ready.configurations)} configurations, {len(ready.traffic)} requests", flush=True)
    asyncio.run(measure_all(given, ready) if given.what == "all" else search(given, ready))


if __name__ == "__main__":
    main()
