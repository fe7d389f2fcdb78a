"""Serving and training on one pool: loans beside a static split and two autoscalers.

    python benchmarks/one_pool.py [--days 7] [--seeds 1 2 3] [--policies loan static_split ...]
    python benchmarks/one_pool.py tune [--days 3]
    python benchmarks/one_pool.py --policies loan --nodes 20

Requests: the Azure code trace (57 minutes) is scaled to a fleet as STREAMS customers, each begun at
another of its requests (by seed) and played over and over at its recorded speed; a request is kept
with the chance that brings all of them to the hour's rate: a cosine day with its peak PEAK_RATE at
15:00 and TROUGH of it at night, WEEKEND of that on days 6 and 7. Lengths stay with their requests,
and every request is simulated. Jobs: a share of the Philly jobs of one week, with their recorded
GPUs (up to 8) and durations, in another order for each seed; a start takes RESTART, a preemption
loses no step. Pool: nodes of 8 A100-80GB at PRICE a device-hour, used or not.

The SLO is that of DistServe's chat on a model of 175B (Zhong et al. 2024; recalled). Every policy
has one parameter for how generous it is; `tune` tries a grid of it on TUNE_SEED, whose days are not
reported, and TUNED holds of each the value that kept 99 % with the fewest device-hours, or
else the best. The share of jobs was chosen so that they fill about nine tenths of what the static
split leaves.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray

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
from meted.policy.serving.dynamo import DynamoPlanner
from meted.policy.serving.kubernetes import KubernetesHpa
from meted.policy.serving.performance_based import PerformanceScaling
from meted.policy.serving.static_split import StaticSplit
from meted.policy.sharing.line import Order
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
LIMITS = SLO(ttft_p95=Micros(4 * SECOND), tpot_p95=Micros(SECOND // 5))
NODES, PRICE = 24, 3.67
STREAMS = 12
PEAK_RATE, TROUGH, WEEKEND = 3.1, 0.25, 0.6
WEEK, SHARE = 6, 0.25
RESTART = 60 * SECOND
INTERVAL = 60 * SECOND
TUNE_SEED = 100


def week_of_requests(days: int, seed: int) -> list[SimRequest]:
    """The streams together, in order."""
    trace = read_trace(data_folder("azure") / "AzureLLMInferenceTrace_code.csv")
    rng = np.random.default_rng(seed)
    requests = [one for _ in range(STREAMS) for one in stream(trace, days, rng)]
    return sorted(requests, key=lambda one: one.at)


def stream(trace: Sequence[Arrival], days: int, rng: np.random.Generator) -> Iterator[SimRequest]:
    """The trace, over and over, thinned to the stream's share of each moment's rate."""
    moments = np.array([one.at for one in trace], dtype=np.float64) / SECOND
    moments -= moments[0]
    turn = moments[-1] * len(moments) / (len(moments) - 1)
    begin = int(rng.integers(len(trace)))
    order = np.roll(np.arange(len(trace)), -begin)
    once = (moments[order] - moments[begin]) % turn
    for done in np.arange(0.0, days * DAY_S, turn):
        at = done + once
        kept = rng.random(len(at)) < rate(at) / STREAMS * turn / len(at)
        for place in np.flatnonzero(kept & (at < days * DAY_S)).tolist():
            asked = trace[order[place]]
            yield SimRequest(
                Micros(int(at[place] * SECOND)), asked.prompt_tokens, asked.output_tokens
            )


def rate(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Requests per second of all streams. at: seconds from Monday, 0:00."""
    hours = at / 3600
    day = (1 + np.cos(2 * np.pi * (hours % 24 - 15) / 24)) / 2
    weekend = np.where(hours // 24 % 7 >= 5, WEEKEND, 1.0)
    return PEAK_RATE * (TROUGH + (1 - TROUGH) * day) * weekend


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


def make_pool(nodes: int) -> Pool:
    return Pool(
        devices=tuple(Device(index=one, kind=KIND, node=one // 8) for one in range(8 * nodes)),
        price=Price(nano_usd_per_device_hour=NanoUSD(round(PRICE * 1e9))),
        shared=False,
    )


def make_fleet(requests: Sequence[SimRequest]) -> Fleet:
    """A replica is a whole node: on fewer devices the model keeps the SLO at no rate."""
    return fleet_of(
        ARCHITECTURES[MODEL],
        pool=make_pool(1),
        facts=DEVICE_KINDS,
        slo=LIMITS,
        sample=requests[:: max(1, len(requests) // 2000)],
        home=Home(Path(mkdtemp())),
    )


GRIDS: dict[str, tuple[Callable[[float], Policy], Sequence[float]]] = {
    "static_split": (lambda value: StaticSplit(replicas=value), (8, 9, 10, 11, 12, 13)),
    "kubernetes_hpa": (lambda value: KubernetesHpa(target=value), (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)),
    "dynamo_planner": (lambda value: DynamoPlanner(load=value), (1.0, 0.7, 0.5, 0.4, 0.3, 0.2)),
    "loan": (lambda value: Loan(busy=value), (1.0, 0.9, 0.8, 0.7, 0.6)),
}
"""How each policy is tuned: its most sparing value first."""
TUNED = {"static_split": 11, "kubernetes_hpa": 0.8, "dynamo_planner": 0.3, "loan": 1.0}

POLICIES: dict[str, Policy] = {
    **{name: make(TUNED[name]) for name, (make, _) in GRIDS.items()},
    # What of a loan's shorter wait comes from the order of the line, and what from lending.
    "static_shortest": StaticSplit(
        replicas=TUNED["static_split"], overtake=1.0, order=Order.SHORTEST
    ),
    "loan_arrival": Loan(busy=TUNED["loan"], order=Order.ARRIVAL, overtake=0),
    "loan_least_served": Loan(busy=TUNED["loan"], order=Order.LEAST_SERVED, overtake=0),
    "performance_scaling": PerformanceScaling(),
    # As their authors ship them.
    "kubernetes_hpa_default": KubernetesHpa(),
    "dynamo_planner_default": DynamoPlanner(),
}


def run(policy: Policy, days: int, seed: int, nodes: int) -> Result:
    """One week of one policy."""
    requests = week_of_requests(days, seed)
    fleet = make_fleet(requests)
    serving = deployment_of(MODEL, fleet, slo=LIMITS, requests=requests, least=1, most=nodes)
    return simulate(
        Scenario(
            pool=make_pool(nodes),
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
            reach = "" if found.reach is None else f" +- {found.reach:.4f}"
            cells.append(f"{line.measure.name} {found.mean:.4f}{reach}")
    for told, uses in (("trained", (Use.TRAINING,)), ("serving", SERVING)):
        hours = [dollars(one, uses) / PRICE for one in results]
        cells.append(f"device-hours {told} {np.mean(hours):.0f}")
    return "; ".join(cells)


SERVING = (Use.SERVING, Use.READY, Use.LOADING)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("compare", "tune"), default="compare")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    given = parser.parse_args()
    if given.what == "tune":
        for name in (one for one in GRIDS if one in given.policies):
            make, values = GRIDS[name]
            for value in values:
                result = run(make(value), given.days, TUNE_SEED, given.nodes)
                print(row(f"{name} {value:g}", [result]), flush=True)
        return
    for name in given.policies:
        began = time.process_time()
        results = [run(POLICIES[name], given.days, seed, given.nodes) for seed in given.seeds]
        spent = time.process_time() - began
        print(f"{row(name, results)}; {spent:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
