"""Gavel's own results with Gavel's own rules: its simulator's numbers come out of ours."""

import pytest

from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.live.job_traces.gavel import read_gavel, read_throughputs
from meted.policy.protocol import Policy
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.max_min import MaxMinPolicy
from meted.sim.scenario import Scenario, SimJob, Table
from meted.sim.world import simulate
from meted.testing.public_data import NoDataError, data_folder

HOUR = 3_600_000_000
CLUSTER = {"v100": (8, 740_000_000), "p100": (16, 430_000_000), "k80": (24, 135_000_000)}
STATIC, DYNAMIC = "minimize_makespan.trace", "max_min_fairness.trace"


@pytest.mark.data
@pytest.mark.parametrize(
    ("trace", "policy", "told"),
    [
        (STATIC, FifoPolicy(keep_seconds=1920), (11.18, 25.20, 320.66)),
        (DYNAMIC, FifoPolicy(keep_seconds=1920), (5.42, 20.09, 245.43)),
        (STATIC, MaxMinPolicy(keep_seconds=1920), (9.90, 19.03, 289.65)),
        (DYNAMIC, MaxMinPolicy(keep_seconds=1920), (4.06, 17.76, 243.27)),
    ],
)
def test_hours_and_dollars_are_those_of_gavels_simulator(
    trace: str, policy: Policy, told: tuple[float, float, float]
) -> None:
    try:
        folder = data_folder("gavel")
    except NoDataError as error:
        pytest.skip(str(error))
    throughputs = read_throughputs(folder / "simulation_throughputs.json")
    jobs = [
        SimJob(
            name=JobName(job.name),
            arrived=job.arrived,
            steps=job.steps,
            model=Table(rows=job.options),
            weight=job.weight,
        )
        for job in read_gavel(folder / trace, throughputs)
    ]
    kinds = [kind for kind, (count, _) in CLUSTER.items() for _ in range(count)]
    pool = Pool(
        devices=tuple(Device(index=n, kind=kind, node=n) for n, kind in enumerate(kinds)),
        price=Price(nano_usd_per_device_hour=NanoUSD(0)),
        prices={
            kind: Price(nano_usd_per_device_hour=NanoUSD(price), idle=NanoUSD(0))
            for kind, (_, price) in CLUSTER.items()
        },
        shared=False,
    )
    result = simulate(Scenario(pool=pool, policy=policy, interval=Micros(360_000_000), jobs=jobs))
    ends = [(job.finished or 0) - job.arrived for job in result.jobs]
    assert all(job.finished is not None for job in result.jobs)
    assert sum(ends) / len(ends) / HOUR == pytest.approx(told[0], rel=0.02)
    assert max(job.finished or 0 for job in result.jobs) / HOUR == pytest.approx(told[1], rel=0.02)
    assert sum(one.cost for one in result.segments) / 1e9 == pytest.approx(told[2], rel=0.02)
