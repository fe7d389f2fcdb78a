"""Pollux's workloads on 16 nodes of 4 T4: average completion times, and the time of a plan.

python benchmarks/pollux.py DATA/pollux [--workload 6] [--policy goodput] [--set short_first=1.5]
"""

import argparse
import random
import resource
import time
from pathlib import Path

from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.live.pollux_profiles import read_profile, read_workload
from meted.policy.allocation import make_policy
from meted.policy.goodput.program import Column, solve
from meted.sim.elastic_job import ElasticJob
from meted.sim.scenario import Scenario, SimJob
from meted.sim.world import simulate

NODES, NODE_DEVICES, SECOND = 16, 4, 1_000_000
COUNTS = (1, 2, 4, *range(8, 65, 4))
PEER = {"goodput": ("Pollux", 2446), "tiresias": ("Tiresias", 3470)}


def jobs(data: Path, workload: int, *, elastic: bool) -> list[SimJob]:
    profiles = {one.name: read_profile(one) for one in sorted((data / "profiles").iterdir())}
    found: list[SimJob] = []
    for row in read_workload(data / f"workload-{workload}.csv"):
        counts, batch = (row.devices,), row.batch
        if elastic:
            counts = (1,) if row.application == "ncf" else COUNTS
            batch = 32768 if row.application == "ncf" else None
        model = ElasticJob(profile=profiles[row.application], kind="t4", counts=counts, batch=batch)
        found.append(
            SimJob(
                name=JobName(row.name),
                arrived=Micros(round(row.seconds * SECOND)),
                steps=model.steps,
                model=model,
                restart=Micros(30 * SECOND),
            )
        )
    return found


def run(data: Path, workload: int, policy: str, parameters: dict[str, float]) -> None:
    pool = Pool(
        devices=tuple(
            Device(index=one, kind="t4", node=one // NODE_DEVICES)
            for one in range(NODES * NODE_DEVICES)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(350_000_000)),
        shared=False,
    )
    begun = time.perf_counter()
    result = simulate(
        Scenario(
            pool=pool,
            policy=make_policy(policy, parameters),
            interval=Micros(60 * SECOND),
            jobs=jobs(data, workload, elastic=policy != "tiresias"),
        )
    )
    times = [(one.finished - one.arrived) / 1e6 for one in result.jobs if one.finished is not None]
    peer = f"; {PEER[policy][0]} on workload 6: {PEER[policy][1]} s" if policy in PEER else ""
    print(
        f"workload {workload}, {policy} {parameters}: average JCT {sum(times) / len(times):,.0f} s,"
        f" {len(times)} of {len(result.jobs)} done,"
        f" {sum(one.restarts for one in result.jobs)} restarts,"
        f" makespan {result.ended / 3.6e9:.2f} h{peer};"
        f" {time.perf_counter() - begun:.1f} s to simulate",
        flush=True,
    )


def plan(count: int = 1024, options: int = 40, seed: int = 7) -> None:
    rng = random.Random(seed)
    columns: list[Column] = []
    for job in range(count):
        bend, worth = rng.uniform(0.3, 0.95), rng.uniform(0.5, 2)
        columns += [
            Column(job=job, kind="t4", devices=n, value=worth * n**bend)
            for n in range(1, options + 1)
        ]
    begun, spent = time.perf_counter(), time.process_time()
    found = solve(columns, {"t4": 4 * count}, seconds=4.0)
    print(
        f"{count} jobs, {len(columns)} binaries: {time.perf_counter() - begun:.2f} s "
        f"({time.process_time() - spent:.2f} CPU-s), gap to "
        f"the LP bound {found.gap:.4%}, peak memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--workload", type=int, action="append")
    parser.add_argument("--policy", action="append")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    parameters = {name: float(value) for name, value in (one.split("=") for one in given.set)}
    plan()
    for workload in given.workload or [6, 1]:
        for policy in given.policy or ["tiresias", "goodput"]:
            run(given.data, workload, policy, parameters)


if __name__ == "__main__":
    main()
