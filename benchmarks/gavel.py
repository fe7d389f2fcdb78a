"""Allocation policies on Gavel's traces: 8 V100, 16 P100, 24 K80, one GPU a server, in rounds.

python benchmarks/gavel.py reproduce | money | deadlines [--trace dynamic] [--seeds 10] | solve
"""

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from meted.domain.allocation import JobDemand, JobOption, Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.live.job_traces.gavel import read_gavel, read_throughputs
from meted.policy.protocol import Policy
from meted.policy.training.cheapest import CheapestPolicy
from meted.policy.training.deadlines import DeadlinesPolicy
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.finish_time_fairness import FinishTimeFairnessPolicy
from meted.policy.training.horizon import least_hours
from meted.policy.training.las import LasPolicy
from meted.policy.training.makespan import MakespanPolicy
from meted.policy.training.max_min import MaxMinPolicy, fair_paces, max_min_shares
from meted.policy.training.room import make_room
from meted.policy.training.sum_throughput import SumThroughputPolicy
from meted.policy.training.ways import make_ways
from meted.sim.result import Result
from meted.sim.scenario import Scenario, SimJob, Table
from meted.sim.world import simulate
from meted.testing.public_data import data_folder

ROUND = Micros(360_000_000)
HOUR = 3_600_000_000
CLUSTER = {"v100": (8, 0.74), "p100": (16, 0.43), "k80": (24, 0.135)}
"""Of each kind: how many, and US dollars an hour while busy; idle ones are free, as with Gavel."""
TRACES = {"static": "minimize_makespan.trace", "dynamic": "max_min_fairness.trace"}


@dataclass(frozen=True, slots=True)
class Row:
    """What a simulation came to: hours, US dollars, deadlines missed."""

    jct: float
    makespan: float
    dollars: float
    missed: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.jct:6.2f} h JCT {self.makespan:6.2f} h makespan ${self.dollars:7.2f} "
            f"{self.missed:3d} missed ({self.seconds:.1f} s)"
        )


def make_pool(*, idle_costs: bool = False) -> Pool:
    """idle_costs: an idle device costs as much as a busy one, and nothing only where parked."""
    kinds = [kind for kind, (count, _) in CLUSTER.items() for _ in range(count)]
    return Pool(
        devices=tuple(
            Device(index=index, kind=kind, node=index) for index, kind in enumerate(kinds)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(0)),
        prices={
            kind: Price(
                nano_usd_per_device_hour=NanoUSD(round(dollars * 1e9)),
                idle=None if idle_costs else NanoUSD(0),
                parked=NanoUSD(0),
            )
            for kind, (_, dollars) in CLUSTER.items()
        },
        shared=False,
    )


def read_jobs(name: str) -> list[SimJob]:
    folder = data_folder("gavel")
    throughputs = read_throughputs(folder / "simulation_throughputs.json")
    return [
        SimJob(
            name=JobName(job.name),
            arrived=job.arrived,
            steps=job.steps,
            model=Table(rows=job.options),
            weight=job.weight,
        )
        for job in read_gavel(folder / TRACES[name], throughputs)
    ]


def run(
    jobs: Sequence[SimJob], policy: Policy, *, at_once: bool = False, idle_costs: bool = False
) -> Row:
    started = time.process_time()
    pool = make_pool(idle_costs=idle_costs)
    result = simulate(
        Scenario(pool=pool, policy=policy, interval=ROUND, jobs=jobs, at_once=at_once)
    )
    return row_of(result, time.process_time() - started)


def row_of(result: Result, seconds: float) -> Row:
    finished = [job for job in result.jobs if job.finished is not None]
    assert len(finished) == len(result.jobs), "a job has not finished"
    return Row(
        jct=sum((job.finished or 0) - job.arrived for job in finished) / len(finished) / HOUR,
        makespan=max(job.finished or 0 for job in finished) / HOUR,
        dollars=sum(one.cost for one in result.segments) / 1e9,
        missed=sum(job.missed for job in result.jobs),
        seconds=seconds,
    )


def with_deadlines(jobs: Sequence[SimJob], seed: int) -> list[SimJob]:
    """A third of the jobs each at 1.2, 2 and 10 times their duration on V100, chosen by seed."""
    stretch = np.resize([1.2, 2.0, 10.0], len(jobs))
    np.random.default_rng(seed).shuffle(stretch)
    return [
        replace(job, deadline=Micros(job.arrived + round(times * _on_v100(job) * 1e6)))
        for job, times in zip(jobs, stretch.tolist(), strict=True)
    ]


def _on_v100(job: SimJob) -> float:
    """Seconds."""
    return job.steps / next(
        option.steps_per_second for option in job.model.options(0) if option.kind == "v100"
    )


def reproduce() -> None:
    """Gavel's own rules: shares stand for 1,920 s, decisions at the ends of rounds only."""
    wanted = {
        ("static", "fifo"): (11.18, 25.20, 320.66),
        ("static", "max-min"): (9.90, 19.03, 289.65),
        ("dynamic", "fifo"): (5.42, 20.09, 245.43),
        ("dynamic", "max-min"): (4.06, 17.76, 243.27),
    }
    policies = {
        "fifo": FifoPolicy(keep_seconds=1920),
        "max-min": MaxMinPolicy(keep_seconds=1920),
    }
    for (trace, name), told in wanted.items():
        row = run(read_jobs(trace), policies[name])
        got = row.jct, row.makespan, row.dollars
        apart = ", ".join(
            f"{100 * (one / other - 1):+.1f} %" for one, other in zip(got, told, strict=True)
        )
        print(f"{trace:8} {name:8} {row}: {apart} from Gavel's", flush=True)


def money() -> None:
    """Least cost and least time, with their lower bounds."""
    for trace in TRACES:
        dollars, hours = bounds(read_jobs(trace))
        print(
            f"{trace}: no plan costs less than ${dollars:.2f}; least makespan if all came at 0: "
            f"{hours:.2f} h"
        )
    static, dynamic = read_jobs("static"), read_jobs("dynamic")
    rows: list[tuple[str, Sequence[SimJob], Policy]] = [
        ("static, makespan", static, MakespanPolicy()),
        ("static, cheapest, $0.1/h", static, CheapestPolicy(usd_per_hour=0.1)),
        ("dynamic, cheapest, $0.02/h", dynamic, CheapestPolicy(usd_per_hour=0.02)),
        ("dynamic, cheapest, $0.1/h", dynamic, CheapestPolicy(usd_per_hour=0.1)),
        ("dynamic, cheapest, $0.3/h", dynamic, CheapestPolicy(usd_per_hour=0.3)),
        ("dynamic, finish-time fairness", dynamic, FinishTimeFairnessPolicy()),
        ("dynamic, least attained service", dynamic, LasPolicy()),
        ("dynamic, sum of throughput / $", dynamic, SumThroughputPolicy()),
        ("static, cheapest within 1.09 x", static, CheapestPolicy(makespan_factor=1.09)),
    ]
    for name, jobs, policy in rows:
        print(f"{name:34} {run(jobs, policy, at_once=True)}", flush=True)
    parked = run(static, CheapestPolicy(makespan_factor=1.09), at_once=True, idle_costs=True)
    print(f"{'the same, idle devices cost as busy':34} {parked}", flush=True)


def bounds(jobs: Sequence[SimJob]) -> tuple[float, float]:
    """US dollars if every job ran where it is cheapest, and hours if all came at moment 0."""
    demands = tuple(
        JobDemand(
            job=job.name,
            order=0,
            remaining_steps=round(job.steps),
            tokens_per_device_second=0.0,
            options=job.model.options(0),
        )
        for job in jobs
    )
    snapshot = Snapshot(now=Micros(0), pool=make_pool(), deployments=(), jobs=demands)
    ways = make_ways(demands, make_room(snapshot))
    cost = ways.steps[ways.job] / ways.pace / 3600 * ways.dollars
    return float(ways.least_by_job(cost).sum()), least_hours(ways, 60.0)


def deadlines(trace: str, seeds: int) -> None:
    """Missed deadlines, a third of the jobs each at 1.2, 2 and 10 times their V100 duration."""
    rows: list[Row] = []
    for seed in range(seeds):
        jobs = with_deadlines(read_jobs(trace), seed)
        rows.append(run(jobs, DeadlinesPolicy(), at_once=True))
        print(f"{trace} seed {seed}: {rows[-1]}", flush=True)
    missed = [row.missed for row in rows]
    print(
        f"{trace}: {np.mean(missed):.1f} missed ({min(missed)} to {max(missed)}), "
        f"${np.mean([row.dollars for row in rows]):.2f}, "
        f"{np.mean([row.jct for row in rows]):.2f} h JCT, "
        f"{np.mean([row.makespan for row in rows]):.2f} h makespan"
    )


def solve(count: int = 8192) -> None:
    """Max-min shares of many jobs, drawn from Gavel's table with a seed."""
    throughputs = read_throughputs(data_folder("gavel") / "simulation_throughputs.json")
    keys = sorted(key for key in throughputs["v100"] if key[1] in (1, 2, 4))
    drawn = np.random.default_rng(1).integers(len(keys), size=count).tolist()
    demands = tuple(
        JobDemand(
            job=JobName(f"j{number}"),
            order=number,
            remaining_steps=1000,
            tokens_per_device_second=0.0,
            options=tuple(
                JobOption(kind=kind, devices=keys[key][1], steps_per_second=paces[keys[key]])
                for kind, paces in throughputs.items()
                if paces.get(keys[key], 0) > 0
            ),
        )
        for number, key in enumerate(drawn)
    )
    pool = replace(
        make_pool(),
        devices=tuple(
            Device(index=index, kind=list(CLUSTER)[index % 3], node=index) for index in range(3072)
        ),
    )
    snapshot = Snapshot(now=Micros(0), pool=pool, deployments=(), jobs=demands)
    ways = make_ways(demands, make_room(snapshot))
    max_min_shares(ways)
    spent: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        max_min_shares(make_ways(demands, make_room(snapshot)))
        spent.append(time.perf_counter() - started)
    tracemalloc.start()
    shares = max_min_shares(make_ways(demands, make_room(snapshot)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    started = time.perf_counter()
    MaxMinPolicy().decide(replace(snapshot, solver_seconds=10.0))
    whole = time.perf_counter() - started
    worth = ways.pace * ways.width / np.maximum(fair_paces(ways), 1e-12)[ways.job]
    least = ways.sum_by_job(shares * worth).min()
    print(
        f"{count} jobs x 3 kinds: {sorted(spent)[2]:.3f} s ({min(spent):.3f} to {max(spent):.3f}), "
        f"{peak / 2**20:.0f} MiB, least share {least:.5f}; a whole decision {whole:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["reproduce", "money", "deadlines", "solve"])
    parser.add_argument("--trace", choices=list(TRACES), default="dynamic")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    match given.what:
        case "reproduce":
            reproduce()
        case "money":
            money()
        case "deadlines":
            deadlines(given.trace, given.seeds)
        case _:
            solve()


if __name__ == "__main__":
    main()
