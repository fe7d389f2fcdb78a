"""A real engine's log predicted from its first minute: vLLM 0.19 with Llama-3.1-8B on two GPUs.

The factors are fitted to the first sixty requests; all the rest are replayed at their arrivals.

    python benchmarks/vllm_logs.py [--known 60] [--json]
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.units import Micros
from meted.predict.batching import Arrival, Served
from meted.predict.replay import Latencies, latencies, replay
from meted.predict.request_fit import MeasuredRequest, fit_requests, replica_with
from meted.predict.roofline import Setup
from meted.testing.public_data import data_folder

MACHINES = {"RTX4090": "rtx-4090", "RTXPRO6000": "rtx-pro-6000"}
METRICS = ("tpot", "ttft", "e2e")


@dataclass(frozen=True, kw_only=True)
class Log:
    """What an engine wrote: its settings, and each request with its moments from the first on."""

    setup: Setup
    kv_tokens: int | None
    ahead: bool
    arrivals: tuple[Arrival, ...]
    measured: tuple[MeasuredRequest, ...]


def read_log(machine: str) -> Log:
    """The log of one machine. Arrival is when the engine queued a request."""
    folder: Path = data_folder("llmservingsim") / f"{machine}-Llama-3.1-8B"
    meta = json.loads((folder / "meta.json").read_text())
    lines = (folder / "requests.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    start = rows[0]["queued_ts"]

    def moment(row: dict[str, Any], name: str) -> Micros:
        return Micros(round((row[name] - start) * 1e6))

    engine = meta["engine_kwargs"]
    scheduler = meta.get("resolved_config", {}).get("scheduler_config", {})
    return Log(
        setup=Setup(
            architecture=lookup_architecture("llama-3.1-8b"),
            kind=lookup_device_kind(MACHINES[machine]),
            algorithm=ServingAlgorithm(
                max_batch=engine["max_num_seqs"], chunk_tokens=engine["max_num_batched_tokens"]
            ),
        ),
        kv_tokens=meta.get("kv_cache", {}).get("num_kv_tokens"),
        # The older log does not say; asynchronous scheduling is this engine version's default.
        ahead=scheduler.get("async_scheduling", True),
        arrivals=tuple(
            Arrival(moment(row, "queued_ts"), row["input_toks"], row["output_toks"]) for row in rows
        ),
        measured=tuple(
            MeasuredRequest(
                first_token=moment(row, "first_token_ts"), last_token=moment(row, "last_token_ts")
            )
            for row in rows
        ),
    )


def measured_latencies(log: Log) -> Latencies:
    return latencies(
        [
            Served(arrival, first_token=one.first_token, last_token=one.last_token)
            for arrival, one in zip(log.arrivals, log.measured, strict=True)
        ]
    )


def errors(told: Latencies, real: Latencies, since: int) -> dict[str, dict[str, float]]:
    """Relative errors of the mean, median, p95 and p99, and the mean of each request's own."""
    found: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        ours, theirs = getattr(told, metric)[since:], getattr(real, metric)[since:]
        found[metric] = {
            "mean": ours.mean() / theirs.mean() - 1,
            **{
                f"p{share:g}": np.percentile(ours, share) / np.percentile(theirs, share) - 1
                for share in (50, 95, 99)
            },
            "each": float(np.mean(np.abs(ours / theirs - 1))),
            "measured_mean_s": theirs.mean() / 1e6,
        }
    return found


def predict_rest(machine: str, known: int) -> dict[str, Any]:
    """Fit to the first `known` requests, replay all, compare the rest."""
    log = read_log(machine)
    started = time.process_time()
    fit = fit_requests(
        log.setup,
        log.arrivals,
        log.measured[:known],
        kv_tokens=log.kv_tokens,
        ahead=log.ahead,
    )
    fitted = time.process_time()
    replica = replica_with(log.setup, fit.factors, log.kv_tokens)
    served = replay(replica, log.arrivals, ahead=log.ahead)
    replayed = time.process_time()
    return {
        "machine": machine,
        "errors": errors(latencies(served), measured_latencies(log), known),
        "preemptions": sum(one.preempted for one in served),
        "fit_cpu_s": fitted - started,
        "replay_cpu_s": replayed - fitted,
        "kv_tokens": replica.kv_tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--known", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [predict_rest(machine, options.known) for machine in MACHINES]
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"errors in % of the measured value, requests {options.known + 1} to 300")
    print("machine     metric  measured mean     mean    p50    p95    p99   each request")
    for result in results:
        for metric, one in result["errors"].items():
            numbers = "".join(f"{100 * one[name]:+7.1f}" for name in ("mean", "p50", "p95", "p99"))
            print(
                f"{result['machine']:<11} {metric:<6} {one['measured_mean_s']:>11.3f} s  "
                f"{numbers} {100 * one['each']:>14.1f}"
            )
        print(
            f"            {result['preemptions']} preemptions; KV cache {result['kv_tokens']} "
            f"tokens; fit {result['fit_cpu_s']:.1f} CPU-s, replay {result['replay_cpu_s']:.2f}"
        )


if __name__ == "__main__":
    main()
