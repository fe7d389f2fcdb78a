"""Allocation policies on Gavel's traces: 8 V100, 16 P100, 24 K80, one GPU a server, in rounds.

python benchmarks/gavel.py reproduce | aims | bounds | solve
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.live.job_traces.gavel import read_gavel, read_throughputs
from meted.policy.protocol import Policy
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


def make_pool() -> Pool:
    kinds = [kind for kind, (count, _) in CLUSTER.items() for _ in range(count)]
    return Pool(
        devices=tuple(
            Device(index=index, kind=kind, node=index) for index, kind in enumerate(kinds)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(0)),
        prices={
            kind: Price(nano_usd_per_device_hour=NanoUSD(round(dollars * 1e9)), idle=NanoUSD(0))
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


def run(jobs: Sequence[SimJob], policy: Policy, *, at_once: bool = False) -> Row:
    started = time.process_time()
    result = simulate(
        Scenario(pool=make_pool(), policy=policy, interval=ROUND, jobs=jobs, at_once=at_once)
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
