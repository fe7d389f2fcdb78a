"""Serving and training on one pool: loans beside a static split and two autoscalers.

    python benchmarks/one_pool.py [--days 2] [--seeds 1 2 3] [--policies loan static_split ...]

Requests: the Azure code trace (57 minutes) is played over and over in four streams, each time begun
at another of its requests (by seed), on a clock that runs as fast as each hour's rate says: a
cosine day with its peak at 15:00 and TROUGH of it at night, WEEKEND of that on days 6 and 7. So a
burst keeps its number of requests, and lasts as much longer as the stream is slower than the trace;
lengths stay with their requests. Every request is simulated. Jobs: a share of the Philly jobs of
one week that come in those days, with their recorded GPUs (up to 8) and durations, in another order
for each seed; a start takes RESTART, a preemption loses no step. Pool: 12 nodes of 8 A100-80GB at
PRICE a device-hour, used or not. Chosen after seeing days of seed 0: the model, its SLO, the rate
and the stretching of bursts (on tighter ones neither the loan nor the split kept 99 %), the share
of jobs, the static split's replicas, the loan's spare replica. The autoscalers keep their usual
settings, which nobody tuned here.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from meted.cli.simulate_serving import Fleet, deployment_of, fleet_of
from meted.cli.simulate_traces import shuffled
from meted.domain.allocation import JobOption
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.deployment import SLO
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.live.home import Home
from meted.live.job_traces.philly import PhillyPart, read_philly
from meted.live.traffic import read_trace
from meted.policy.protocol import Policy
from meted.policy.serving.demand_based import DemandScaling
from meted.policy.serving.dynamo import DynamoPlanner
from meted.policy.serving.kubernetes import KubernetesHpa
from meted.policy.serving.performance_based import PerformanceScaling
from meted.policy.serving.static_split import StaticSplit
from meted.policy.sharing.loan import Loan
from meted.predict.batching import Arrival
from meted.sim.compare import compare
from meted.sim.measures import Limits, dollars
from meted.sim.result import Result, Use
from meted.sim.scenario import Scenario, SimJob, SimRequest, Table
from meted.sim.world import simulate
from meted.testing.public_data import data_folder

SECOND = 1_000_000
DAY_S = 86_400
MODEL, KIND = "gpt3-175b", "a100-80gb"
LIMITS = SLO(ttft_p95=Micros(10 * SECOND), tpot_p95=Micros(7 * SECOND // 10))
NODES, PRICE = 12, 3.67
STREAMS = 4
PEAK_RATE, TROUGH, WEEKEND = 0.5, 0.25, 0.6
WEEK, SHARE = 6, 0.25
RESTART = 60 * SECOND
INTERVAL = 60 * SECOND
STATIC_REPLICAS = 4


def week_of_requests(days: int, seed: int) -> list[SimRequest]:
    """The streams together, in order."""
    trace = read_trace(data_folder("azure") / "AzureLLMInferenceTrace_code.csv")
    rng = np.random.default_rng(seed)
    requests = [one for _ in range(STREAMS) for one in stream(trace, days, rng)]
    return sorted(requests, key=lambda one: one.at)


def stream(trace: Sequence[Arrival], days: int, rng: np.random.Generator) -> Iterator[SimRequest]:
    """The trace, over and over, on a clock that runs as fast as each hour's rate says."""
    moments = np.array([one.at for one in trace], dtype=np.float64) / SECOND
    moments -= moments[0]
    turn = moments[-1] * len(moments) / (len(moments) - 1)
    hours = np.arange(24 * days)
    day = (1 + np.cos(2 * np.pi * (hours % 24 + 0.5 - 15) / 24)) / 2
    rates = TROUGH + (1 - TROUGH) * day
    rates *= PEAK_RATE / STREAMS * np.where(hours // 24 % 7 >= 5, WEEKEND, 1.0)
    edges = np.append(0.0, np.cumsum(rates * 3600 * turn / len(moments)))
    done = 0.0
    while done < edges[-1]:
        begin = int(rng.integers(len(trace)))
        order = np.roll(np.arange(len(trace)), -begin)
        played = done + (moments[order] - moments[begin]) % turn
        at = np.interp(played, edges, np.arange(len(edges)) * 3600.0, right=np.inf)
        for one, moment in zip(order.tolist(), at.tolist(), strict=True):
            if moment < days * DAY_S:
                asked = trace[one]
                yield SimRequest(
                    Micros(int(moment * SECOND)), asked.prompt_tokens, asked.output_tokens
                )
        done += turn


def week_of_jobs(days: int, seed: int) -> list[SimJob]:
    """A share of the week's jobs, in another order for each seed."""
    part = PhillyPart(week=WEEK, share=SHARE, most_gpus=8)
    jobs = shuffled(read_philly(data_folder("philly") / "philly.csv", part), seed)
    return [
        SimJob(
            name=JobName(one.name),
            arrived=one.arrived,
            steps=one.steps,
            model=Table(
                rows=tuple(
                    JobOption(kind=KIND, devices=way.devices, steps_per_second=1.0)
                    for way in one.options
                )
            ),
            tenant=one.tenant,
            restart=Micros(RESTART),
        )
        for one in jobs
        if one.arrived < days * DAY_S * SECOND
    ]


def make_pool() -> Pool:
    return Pool(
        devices=tuple(Device(index=one, kind=KIND, node=one // 8) for one in range(8 * NODES)),
        price=Price(nano_usd_per_device_hour=NanoUSD(round(PRICE * 1e9))),
        shared=False,
    )


def make_fleet(requests: Sequence[SimRequest]) -> Fleet:
    """A whole node a replica first, as the baselines run it; other widths are a choice."""
    fleet = fleet_of(
        ARCHITECTURES[MODEL],
        pool=make_pool(),
        facts=DEVICE_KINDS,
        slo=LIMITS,
        sample=requests[:: max(1, len(requests) // 2000)],
        home=Home(Path(mkdtemp())),
    )
    options = sorted(fleet.options, key=lambda one: -one.devices)
    return replace(fleet, options=tuple(options))


POLICIES: dict[str, Policy] = {
    "static_split": StaticSplit(replicas=STATIC_REPLICAS),
    "static_backfill": StaticSplit(replicas=STATIC_REPLICAS, overtake=1.0),
    "kubernetes_hpa": KubernetesHpa(),
    "dynamo_planner": DynamoPlanner(),
    "demand_scaling": DemandScaling(),
    "loan_fifo": Loan(order="arrival", overtake=0),
    "loan": Loan(),
    "performance": PerformanceScaling(),
}


def run(policy: Policy, days: int, seed: int) -> Result:
    """One week of one policy."""
    requests = week_of_requests(days, seed)
    fleet = make_fleet(requests)
    serving = deployment_of(MODEL, fleet, slo=LIMITS, requests=requests, least=1, most=NODES)
    return simulate(
        Scenario(
            pool=make_pool(),
            policy=policy,
            interval=Micros(INTERVAL),
            deployments=(serving,),
            jobs=week_of_jobs(days, seed),
            horizon=Micros(days * DAY_S * SECOND),
            at_once=True,
            seed=seed,
        )
    )


SHOWN = ("attainment", "wait_mean", "jct_mean", "usd", "usd_idle", "usd_ready", "restarts")


def row(name: str, results: Sequence[Result]) -> str:
    """Means over the seeds, with 95 % intervals where there are several."""
    limits = Limits(slos={one.deployment: LIMITS for one in results[0].deployments})
    table = compare({name: results}, limits)
    cells = [name]
    for line in table.rows:
        found = line.by_policy[name]
        if line.measure.name in SHOWN and found is not None:
            reach = "" if found.reach is None else f" +- {found.reach:.3f}"
            cells.append(f"{line.measure.name} {found.mean:.4f}{reach}")
    trained = [dollars(one, (Use.TRAINING,)) / PRICE for one in results]
    cells.append(f"device-hours trained {np.mean(trained):.0f}")
    return "; ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    given = parser.parse_args()
    for name in given.policies:
        began = time.process_time()
        results = [run(POLICIES[name], given.days, seed) for seed in given.seeds]
        spent = time.process_time() - began
        print(f"{row(name, results)}; {spent:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
