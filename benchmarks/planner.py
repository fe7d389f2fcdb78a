"""The fleet planner on the Azure code trace, Llama-2-7B, four GPU types, beside Melange's figures.

    python benchmarks/planner.py [--json] [--ttft 3] [--seeds 2 3 4 5] [--own]

(a) One table for both sides: the planner's MILP on the throughput table that Melange's ILP was run
on. (b) Replayed: the planner's own capacity model and replay, on the table's roofline, so that no
side has a better machine: 70 % of the bandwidth, 50 % of the FLOP/s, 2 ms a step, 90 % of the
memory, FP16. A plan is made on one seed of Poisson arrivals with the trace's lengths and then
replayed on others. Melange's fleets are replayed too, which its authors' planner never does: once
with this planner's routing and chunks, once with its own shares at random and chunks of 2048.
--own: arrivals are the trace's own moments, stretched to the rate.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from statistics import median

import numpy as np

from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.device_kind import DeviceKind, Link, Precision
from meted.domain.market import Offer, Purchase
from meted.domain.units import Micros, NanoUSD
from meted.live.traffic import read_trace
from meted.policy.fleet.check import Checker, replay_requests
from meted.policy.fleet.columns import Column
from meted.policy.fleet.milp import FleetProblem, solve_fleet
from meted.policy.fleet.plan import FleetPlan
from meted.policy.fleet.planner import plan_fleet, problem_of
from meted.policy.fleet.program import Program, Solved
from meted.policy.fleet.traffic import (
    LENGTHS,
    bucket_of,
    poisson_sample,
    stretched,
    traffic_from_arrivals,
)
from meted.policy.fleet.wish import FleetWish, LatencyLimit, Metric, serving_algorithms
from meted.predict.batching import Arrival
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Setup
from meted.predict.step_time import StepWork
from meted.testing.public_data import data_folder

HOURS = 730.0
WEIGHTS = 2 * 6.738e9
KV_BYTES = 524_288.0
CHUNKS = (64, 128, 256, 512, 1024, 2048, 4096)
SAMPLE = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Datasheet facts that the table's roofline was made from."""

    name: str
    dollars: float
    bandwidth: float
    flops: float
    memory: float


GPUS = (
    Gpu(name="L4", dollars=0.70, bandwidth=300e9, flops=121e12, memory=24e9),
    Gpu(name="A10G", dollars=1.01, bandwidth=600e9, flops=125e12, memory=24e9),
    Gpu(name="A100-80GB", dollars=3.67, bandwidth=2039e9, flops=312e12, memory=80e9),
    Gpu(name="H100", dollars=7.516, bandwidth=3350e9, flops=989e12, memory=80e9),
)
MELANGE = {
    (0.12, 1): (1.71, 0.94),
    (0.12, 4): (5.38, 3.75),
    (0.12, 16): (15.73, 14.98),
    (0.12, 32): (30.76, 29.97),
    (0.04, 16): (18.70, 16.93),
    (0.04, 32): (36.76, 33.87),
}
"""Dollars an hour and LP bound, by TPOT limit in seconds and requests a second; from the data's
README."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStep:
    """The table's roofline: 2 ms and the longer of arithmetic and reading."""

    gpu: Gpu

    def micros(self, work: StepWork) -> float:
        tokens = work.prefill_tokens + work.decode_tokens
        arithmetic = WEIGHTS * tokens / (0.5 * self.gpu.flops)
        reading = (WEIGHTS + KV_BYTES * work.context_tokens) / (0.7 * self.gpu.bandwidth)
        return 2_000 + 1e6 * max(arithmetic, reading)


def replica_of(setup: Setup) -> ReplicaModel:
    gpu = next(one for one in GPUS if one.name == setup.kind.name)
    return ReplicaModel(
        step=TableStep(gpu=gpu),
        kv_tokens=int((0.9 * gpu.memory - WEIGHTS) / KV_BYTES),
        chunk_tokens=setup.algorithm.chunk_tokens,
        max_batch=setup.algorithm.max_batch,
    )


def kind_of(gpu: Gpu) -> DeviceKind:
    nothing = Link(bytes_per_second=1e9, latency_micros=0.0)
    return DeviceKind(
        name=gpu.name,
        title=gpu.name,
        peak_flops={Precision.FP16: gpu.flops},
        memory_bytes=int(gpu.memory),
        bandwidth=gpu.bandwidth,
        node_devices=1,
        link=nothing,
        network=nothing,
        watts_busy=1.0,
        watts_idle=1.0,
        source="datasheet",
    )


OFFERS = tuple(
    Offer(
        kind=one.name,
        purchase=Purchase.ON_DEMAND,
        nano_usd_per_device_hour=NanoUSD(round(one.dollars * 1e9)),
    )
    for one in GPUS
)


def code_trace() -> list[Arrival]:
    return read_trace(data_folder("azure") / "AzureLLMInferenceTrace_code.csv")


def table_problem(trace: Sequence[Arrival], *, tpot_s: float, rate: float) -> FleetProblem:
    """The planner's MILP with the table's rates, in Melange's classes of requests."""
    table: dict[tuple[str, int, int], float] = {}
    with (data_folder("planner") / "llama2-7b-throughput.csv").open() as lines:
        for row in csv.DictReader(lines):
            if float(row["tpot_slo_s"]) == tpot_s:
                key = row["gpu"], int(row["input_tokens_up_to"]), int(row["output_tokens_up_to"])
                table[key] = float(row["requests_per_s"])
    limits = LENGTHS[:8]
    traffic = traffic_from_arrivals(
        trace, arrivals_per_second=rate, prompt_limits=limits, output_limits=limits[:6]
    )
    buckets = traffic.periods[0].buckets

    def held(gpu: str, prompt: int, output: int) -> float | None:
        value = table[gpu, prompt, output]
        return value if value > 1e-5 else None

    columns = tuple(
        Column(
            offer=place,
            kind=gpu.name,
            label=gpu.name,
            devices=1,
            rates=tuple(
                held(gpu.name, min(one.prompt_limit, 8000), min(one.output_limit, 2000))
                for one in buckets
            ),
        )
        for place, gpu in enumerate(GPUS)
    )
    return FleetProblem(
        columns=columns,
        periods=traffic.periods,
        offers=OFFERS,
        dollars=tuple(one.dollars for one in GPUS),
        headroom=((1.0,),) * len(columns),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """(a): dollars an hour."""

    tpot_s: float
    rate: int
    melange: float
    dollars: float
    bound: float
    floor: float
    gap: float
    status: str
    cpu_s: float
    fleet: str


def same_table(trace: Sequence[Arrival], tpot_s: float, rate: int) -> TableRow:
    problem = table_problem(trace, tpot_s=tpot_s, rate=rate)
    began = time.process_time()
    solution = solve_fleet(problem)
    took = time.process_time() - began
    floor = solve_fleet(replace(problem, whole=False))
    return TableRow(
        tpot_s=tpot_s,
        rate=rate,
        melange=MELANGE[tpot_s, rate][0],
        dollars=solution.dollars / HOURS,
        bound=solution.bound / HOURS,
        floor=floor.dollars / HOURS,
        gap=solution.gap,
        status=str(solution.status),
        cpu_s=took,
        fleet=fleet_words(problem, [row[0] for row in solution.replicas]),
    )


def fleet_words(problem: FleetProblem, counts: Sequence[float]) -> str:
    return " + ".join(
        f"{round(count)} {column.kind}"
        + (f"/{column.replica.chunk_tokens}" if column.replica is not None else "")
        for column, count in zip(problem.columns, counts, strict=True)
        if round(count)
    )


def limits_of(tpot_s: float, ttft_s: float) -> tuple[LatencyLimit, ...]:
    return (
        LatencyLimit(metric=Metric.TTFT, quantile=0.99, micros=Micros(round(ttft_s * 1e6))),
        LatencyLimit(metric=Metric.TPOT, quantile=0.99, micros=Micros(round(tpot_s * 1e6))),
    )


def wish_of(
    trace: Sequence[Arrival], sample: tuple[Arrival, ...], tpot_s: float, rate: float, ttft_s: float
) -> FleetWish:
    traffic = traffic_from_arrivals(trace, arrivals_per_second=rate)
    return FleetWish(
        architecture=ARCHITECTURES["llama-2-7b"],
        algorithms=serving_algorithms(weights=(Precision.FP16,), tensor=(1,), chunks=CHUNKS),
        traffic=replace(traffic, sample=sample),
        limits=limits_of(tpot_s, ttft_s),
        offers=OFFERS,
        kinds={one.name: kind_of(one) for one in GPUS},
        replica_of=replica_of,
        replayed_requests=SAMPLE,
    )


@contextmanager
def timed_solves() -> Iterator[list[float]]:
    """CPU seconds of each solve by HiGHS inside the block."""
    spent: list[float] = []
    plain = Program.solve

    def timed(program: Program, **more: float) -> Solved:
        began = time.process_time()
        solved = plain(program, **more)
        spent.append(time.process_time() - began)
        return solved

    Program.solve = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Program.solve = plain  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """(b): dollars an hour; ttft_s, tpot_ms: 99th percentiles in the planning replay, and the
    median over the other seeds; held: of these, how many hold both limits. milp_cpu_s: all solves,
    also those for alternatives, bounds and sensitivity; replay_cpu_s: everything else."""

    arrivals: str
    tpot_s: float
    rate: int
    ttft_limit_s: float
    melange: float
    dollars: float
    bound: float
    ttft_s: float
    tpot_ms: float
    held: int
    seeds: int
    ttft_s_others: float
    tpot_ms_others: float
    plans_tried: int
    milp_cpu_s: float
    replay_cpu_s: float
    requests: int
    fleet: str


def samples_of(
    trace: Sequence[Arrival], rate: float, seeds: Sequence[int], *, own: bool
) -> list[tuple[Arrival, ...]]:
    if own:
        return [stretched(trace, rate)]
    return [
        poisson_sample(trace, arrivals_per_second=rate, count=SAMPLE, seed=seed) for seed in seeds
    ]


def replayed(
    trace: Sequence[Arrival], tpot_s: float, rate: int, *, ttft_s: float, seeds: Sequence[int],
    own: bool,
) -> ReplayRow:  # fmt: skip
    sample = samples_of(trace, rate, [1], own=own)[0]
    wish = wish_of(trace, sample, tpot_s, rate, ttft_s)
    began = time.process_time()
    with timed_solves() as solves:
        plan = plan_fleet(wish)
    took = time.process_time() - began
    problem = problem_of(wish)
    counts = counts_of(plan, problem)
    others = [] if own else [
        verdict(wish, problem, counts, one) for one in samples_of(trace, rate, seeds, own=False)
    ]  # fmt: skip
    shown = others or [tuple(one.attained[0] for one in plan.replay.limits)]
    return ReplayRow(
        arrivals="own" if own else "poisson",
        tpot_s=tpot_s,
        rate=rate,
        ttft_limit_s=ttft_s,
        melange=MELANGE[tpot_s, rate][0],
        dollars=plan.nano_usd_per_month / 1e9 / HOURS,
        bound=plan.bound / 1e9 / HOURS,
        ttft_s=plan.replay.limits[0].attained[0] / 1e6,
        tpot_ms=plan.replay.limits[1].attained[0] / 1e3,
        held=sum(ttft <= ttft_s * 1e6 and tpot <= tpot_s * 1e6 for ttft, tpot in others),
        seeds=len(others),
        ttft_s_others=median(ttft for ttft, _ in shown) / 1e6,
        tpot_ms_others=median(tpot for _, tpot in shown) / 1e3,
        plans_tried=plan.replay.plans_tried,
        milp_cpu_s=sum(solves),
        replay_cpu_s=took - sum(solves),
        requests=plan.replay.requests,
        fleet=fleet_words(problem, counts),
    )


def counts_of(plan: FleetPlan, problem: FleetProblem) -> tuple[int, ...]:
    rows = {
        (row.offer.kind, row.setup.algorithm.chunk_tokens): row.replicas[0] for row in plan.rows
    }
    return tuple(
        rows.get((one.kind, one.replica.chunk_tokens), 0) if one.replica else 0
        for one in problem.columns
    )


def verdict(
    wish: FleetWish, problem: FleetProblem, counts: tuple[int, ...], sample: tuple[Arrival, ...]
) -> tuple[int, int]:
    """99th percentiles of TTFT and TPOT in micros."""
    checker = Checker(
        columns=problem.columns, limits=wish.limits, sample=sample, requests=len(sample)
    )
    found = checker.check(problem.periods[0], counts)
    return found.attained[0], found.attained[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MelangeRow:
    """Melange's fleet in the replay: 99th percentiles, and whether TPOT's limit and TTFT's hold."""

    arrivals: str
    routing: str
    tpot_s: float
    rate: int
    dollars: float
    ttft_s: float
    tpot_ms: float
    holds: bool


def melange_replayed(
    trace: Sequence[Arrival], tpot_s: float, rate: int, *, ttft_s: float, own: bool
) -> list[MelangeRow]:
    """Its fleet with this planner's routing and best chunks, and with its own shares."""
    sample = samples_of(trace, rate, [1], own=own)[0]
    table = table_problem(trace, tpot_s=tpot_s, rate=rate)
    solution = solve_fleet(table)
    wanted = {
        column.kind: round(row[0])
        for column, row in zip(table.columns, solution.replicas, strict=True)
    }
    wish = wish_of(trace, sample, tpot_s, rate, ttft_s)
    problem = problem_of(wish)
    best = {kind: _best_column(problem, kind) for kind in wanted}
    counts = tuple(
        wanted[one.kind] if best[one.kind] == place else 0
        for place, one in enumerate(problem.columns)
    )
    ours = verdict(wish, problem, counts, sample)
    theirs = _by_shares(table, solution.shares, wanted, sample)
    return [
        MelangeRow(
            arrivals="own" if own else "poisson",
            routing=routing,
            tpot_s=tpot_s,
            rate=rate,
            dollars=solution.dollars / HOURS,
            ttft_s=ttft / 1e6,
            tpot_ms=tpot / 1e3,
            holds=ttft <= ttft_s * 1e6 and tpot <= tpot_s * 1e6,
        )
        for routing, (ttft, tpot) in (("planner's", ours), ("its own", theirs))
    ]


def _best_column(problem: FleetProblem, kind: str) -> int | None:
    """The kind's column that holds the most classes, then the most requests of the traffic."""
    buckets = problem.periods[0].buckets

    def worth(place: int) -> tuple[int, float]:
        rates = problem.columns[place].rates
        work = sum(b.arrivals_per_second / r for b, r in zip(buckets, rates, strict=True) if r)
        return sum(1 for rate in rates if rate), -work

    places = [n for n, one in enumerate(problem.columns) if one.kind == kind]
    return max(places, key=worth) if places else None


def _by_shares(
    table: FleetProblem,
    shares: tuple[tuple[tuple[float, ...], ...], ...],
    wanted: dict[str, int],
    sample: Sequence[Arrival],
) -> tuple[float, float]:
    """Each request goes to a GPU type with the probability of its class's share, to a random one
    of that type, and the engine takes prompts in chunks of 2048."""
    draw = np.random.default_rng(0)
    buckets = table.periods[0].buckets
    sent: dict[tuple[int, int], list[Arrival]] = {}
    for one in sample:
        bucket = bucket_of(one, buckets)
        weights = np.array([row[0][bucket] for row in shares])
        place = int(draw.choice(len(weights), p=weights / weights.sum()))
        replica = int(draw.integers(max(1, wanted[table.columns[place].kind])))
        sent.setdefault((place, replica), []).append(one)
    felt = [
        replay_requests(
            ReplicaModel(
                step=TableStep(gpu=GPUS[place]),
                kv_tokens=int((0.9 * GPUS[place].memory - WEIGHTS) / KV_BYTES),
                chunk_tokens=2048,
                max_batch=256,
            ),
            requests,
        )
        for (place, _), requests in sent.items()
    ]
    ttft = np.concatenate([one.ttft for one in felt])
    tpot = np.concatenate([one.tpot for one in felt])
    return float(np.quantile(ttft, 0.99)), float(np.nanquantile(tpot, 0.99))


@dataclass(slots=True)
class Report:
    """Everything that was measured."""

    table: list[TableRow] = field(default_factory=list[TableRow])
    replays: list[ReplayRow] = field(default_factory=list[ReplayRow])
    melange: list[MelangeRow] = field(default_factory=list[MelangeRow])


def told(report: Report) -> str:
    lines = [
        "(a) one table for both sides, $/h",
        "TPOT ms  rps  Melange  MILP   bound  floor  gap    CPU s  fleet",
    ]
    lines += [
        f"{one.tpot_s * 1e3:7.0f} {one.rate:4d} {one.melange:8.2f} {one.dollars:6.2f} "
        f"{one.bound:6.2f} {one.floor:6.2f} {one.gap:5.1%} {one.cpu_s:6.3f}  {one.fleet}"
        for one in report.table
    ]  # fmt: skip
    lines += ["", "(b) replayed, $/h; p99 in the planning replay, then the median of other seeds",
              "arrivals TTFT s TPOT ms  rps  Melange  plan   bound  TTFT s       TPOT ms    held"
              "  tried MILP s replay s  fleet"]  # fmt: skip
    lines += [
        f"{one.arrivals:8s} {one.ttft_limit_s:6.1f} {one.tpot_s * 1e3:7.0f} {one.rate:4d} "
        f"{one.melange:8.2f} {one.dollars:6.2f} {one.bound:6.2f} {one.ttft_s:5.2f} "
        f"{one.ttft_s_others:5.2f}  {one.tpot_ms:5.0f} {one.tpot_ms_others:5.0f}   "
        f"{one.held}/{one.seeds} {one.plans_tried:6d} {one.milp_cpu_s:6.2f} "
        f"{one.replay_cpu_s:8.1f}  {one.fleet}"
        for one in report.replays
    ]
    lines += ["", "Melange's fleets replayed",
              "arrivals routing    TPOT ms  rps    $/h  TTFT s  TPOT ms  holds"]  # fmt: skip
    lines += [
        f"{one.arrivals:8s} {one.routing:10s} {one.tpot_s * 1e3:6.0f} {one.rate:4d} "
        f"{one.dollars:6.2f} {one.ttft_s:7.2f} {one.tpot_ms:8.0f}  {'yes' if one.holds else 'no'}"
        for one in report.melange
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ttft", type=float, nargs="+", default=[3.0], help="p99 limits in s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5])
    parser.add_argument("--own", action="store_true", help="the trace's own moments, stretched")
    asked = parser.parse_args()
    trace = code_trace()
    report = Report()
    for tpot_s, rate in MELANGE:
        report.table.append(same_table(trace, tpot_s, rate))
        for ttft_s in asked.ttft:
            report.replays.append(
                replayed(trace, tpot_s, rate, ttft_s=ttft_s, seeds=asked.seeds, own=asked.own)
            )
        report.melange += melange_replayed(trace, tpot_s, rate, ttft_s=asked.ttft[0], own=asked.own)
    print(json.dumps(asdict(report), indent=2) if asked.json else told(report))


if __name__ == "__main__":
    main()
