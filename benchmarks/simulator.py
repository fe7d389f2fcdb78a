"""The simulator's speed, memory and truth: requests of the Azure trace, a month of Philly's jobs,
and queueing theory.

python benchmarks/simulator.py serve [--replicas 8] [--copies 1] | month [--first-day 60] | theory
"""

import argparse
import math
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.allocation import JobOption, Plan, ReplicaAllocation, ReplicaOption, Snapshot
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD
from meted.live.job_traces.philly import read_philly
from meted.live.traffic import read_trace
from meted.policy.training.fifo import FifoPolicy
from meted.predict.replay import latencies, quantile, replay_fleet
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Setup, predict_replica
from meted.predict.step_time import StepCost
from meted.sim.books import account
from meted.sim.compare import interval
from meted.sim.result import DeploymentResult, Result
from meted.sim.scenario import Scenario, SimDeployment, SimJob, SimRequest, Table
from meted.sim.world import simulate
from meted.testing.public_data import data_folder

TRACE = "AzureLLMInferenceTrace_code.csv"
ROUNDS = 5
SECOND = 1_000_000
DAY = 86_400 * SECOND
LOAD = 5 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class AsMany:
    """So many replicas, each on a device of its own, always."""

    replicas: int

    def decide(self, snapshot: Snapshot) -> Plan:
        places = tuple((device,) for device in range(self.replicas))
        return Plan(
            replicas=tuple(
                ReplicaAllocation(
                    deployment=one.deployment, places=places, reason=f"{self.replicas} replicas"
                )
                for one in snapshot.deployments
            ),
            jobs=(),
        )


def pool_of(devices: int, kind: str, dollars: float, *, per_node: int = 1) -> Pool:
    return Pool(
        devices=tuple(
            Device(index=index, kind=kind, node=index // per_node) for index in range(devices)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(round(dollars * 1e9))),
        shared=False,
    )


def serving(
    model: ReplicaModel, requests: Sequence[SimRequest], replicas: int, *, pool: Pool
) -> Scenario:
    kind = pool.devices[0].kind
    deployment = Deployment(
        name=DeploymentName("chat"),
        checkpoint="chat",
        task=Task.GENERATE,
        replicas=replicas,
        slo=DEFAULT_SLO,
        max_batch=model.max_batch,
        max_queue=1_000_000,
    )
    option = ReplicaOption(kind=kind, devices=1, requests_per_second=5.0, load=Micros(LOAD))
    return Scenario(
        pool=pool,
        policy=AsMany(replicas=replicas),
        interval=Micros(60 * SECOND),
        deployments=[
            SimDeployment(
                deployment=deployment,
                options=(option,),
                replicas={(kind, 1): model},
                requests=requests,
            )
        ],
    )


def memory() -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{peak:.0f} MiB at most"


def serve(replicas: int, copies: int) -> None:
    """The trace on a fleet; copies: so many times as dense and as long a trace of requests."""
    setup = Setup(
        architecture=lookup_architecture("llama-2-7b"),
        kind=lookup_device_kind("a100-80gb"),
        algorithm=ServingAlgorithm(max_batch=256, chunk_tokens=2048),
    )
    model = predict_replica(setup)
    trace = read_trace(data_folder("azure") / TRACE)
    first = trace[0].at
    # Copy number k comes k seconds later: as many requests more, as many times as dense.
    requests = sorted(
        (
            SimRequest(
                Micros(LOAD + SECOND + one.at - first + copy * SECOND),
                one.prompt_tokens,
                one.output_tokens,
            )
            for one in trace
            for copy in range(copies)
        ),
        key=lambda one: one.at,
    )
    scenario = serving(model, requests, replicas, pool=pool_of(replicas, "a100-80gb", 3.67))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent: list[float] = []
    results: list[Result] = []
    for _ in range(ROUNDS):
        started = time.process_time()
        results = [simulate(scenario)]
        spent.append(time.process_time() - started)
    (result,) = results
    books = account(result, scenario.pool)
    (found,) = result.deployments
    middle = float(np.median(spent))
    told("simulate", found)
    if copies == 1:
        alone = tuple(replay_fleet([model] * replicas, trace))
        told("replay  ", DeploymentResult(deployment=found.deployment, served=alone))
    print(
        f"{len(requests)} requests on {replicas} replicas, {len(result.segments)} segments, "
        f"${books.cost / 1e9:.2f}, books balance"
    )
    print(
        f"CPU-seconds: median {middle:.3f}, {min(spent):.3f} to {max(spent):.3f} in {ROUNDS} "
        f"rounds; {len(requests) / middle:,.0f} requests a CPU-second; {memory()}, "
        f"{before:.0f} before"
    )


def told(name: str, found: DeploymentResult) -> None:
    felt = latencies(found.served)
    print(
        f"{name}: {len(found.served)} answered, {found.refused} refused, {found.unfinished} not: "
        f"TTFT p50 {millis(felt.ttft, 0.5):.0f} ms, p99 {millis(felt.ttft, 0.99):.0f} ms; "
        f"TPOT p50 {millis(felt.tpot, 0.5):.1f} ms; E2E p99 {millis(felt.e2e, 0.99):.0f} ms"
    )


def millis(values: NDArray[np.float64], share: float) -> float:
    return quantile(values, share) / 1e3


def month(first_day: int, days: int, nodes: int, round_seconds: int) -> None:
    """Philly's jobs of a month on nodes of 8 GPUs, first come first served."""
    begin, end = first_day * DAY, (first_day + days) * DAY
    jobs = [
        SimJob(
            name=JobName(one.name),
            arrived=Micros(one.arrived - begin),
            steps=one.steps,
            model=Table(
                rows=tuple(
                    JobOption(kind="p100", devices=row.devices, steps_per_second=1.0)
                    for row in one.options
                )
            ),
            tenant=one.tenant,
            restart=Micros(30 * SECOND),
        )
        for one in read_philly(data_folder("philly") / "philly.csv")
        if begin <= one.arrived < end
    ]
    pool = pool_of(8 * nodes, "p100", 0.43, per_node=8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.process_time()
    result = simulate(
        Scenario(pool=pool, policy=FifoPolicy(), interval=Micros(round_seconds * SECOND), jobs=jobs)
    )
    spent = time.process_time() - started
    books = account(result, pool)
    stays = [one.finished - one.arrived for one in result.jobs if one.finished is not None]
    print(
        f"{len(jobs)} jobs of {days} days, {len(stays)} done on {8 * nodes} GPUs: mean JCT "
        f"{np.mean(stays) / 3.6e9:.2f} h; {result.plans} decisions, {len(result.segments)} "
        f"segments, ${books.cost / 1e9:,.0f}, books balance"
    )
    print(
        f"CPU-seconds: {spent:.1f}, {1e3 * spent / result.plans:.1f} ms a decision; {memory()}, "
        f"{before:.0f} before"
    )


def theory(runs: int, count: int) -> None:
    """Mean waits against Erlang C, with intervals over seeds."""
    tokens = 1000
    service = (tokens + 0.5) * 1e-3
    for servers, load in ((1, 0.5), (1, 0.8), (1, 0.9), (4, 3.0), (8, 6.8), (16, 14.4)):
        model = ReplicaModel(
            step=StepCost(fixed=1_000.0, prefill=0.0, decode=0.0, context=0.0),
            kv_tokens=1_000_000,
            chunk_tokens=1,
            max_batch=1,
        )
        means: list[float] = []
        for seed in range(runs):
            random = np.random.default_rng(seed)
            at = 2 * LOAD + np.cumsum(random.exponential(service / load, count)) * SECOND
            lengths = np.maximum(1, np.ceil(random.exponential(tokens, count)))
            requests = [
                SimRequest(Micros(round(when)), 1, int(length))
                for when, length in zip(at, lengths, strict=True)
            ]
            scenario = serving(model, requests, servers, pool=pool_of(servers, "gpu", 1.0))
            (found,) = simulate(scenario).deployments
            waits = [one.started - one.arrival.at for one in found.served[count // 10 :]]
            means.append(float(np.mean(waits)) / SECOND)
        expected = erlang_c(servers, load) * service / (servers - load)
        mean = interval(means)
        print(
            f"M/M/{servers} at {load / servers:.2f}: mean wait {mean.mean:.3f} s +- "
            f"{mean.reach or 0:.3f} (95 %, {runs} seeds of {count}), by Erlang C {expected:.3f} s"
        )


def erlang_c(servers: int, load: float) -> float:
    """Probability that a request waits (Erlang 1917). load: rate times mean service time."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("serve", "month", "theory"))
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--first-day", type=int, default=60)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=128)
    parser.add_argument("--round-seconds", type=int, default=360)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--requests", type=int, default=5_000)
    asked = parser.parse_args()
    match asked.what:
        case "serve":
            serve(asked.replicas, asked.copies)
        case "month":
            month(asked.first_day, asked.days, asked.nodes, asked.round_seconds)
        case _:
            theory(asked.runs, asked.requests)


if __name__ == "__main__":
    main()
