"""How fast requests are replayed: the Azure code trace on Llama-2-7B replicas of one A100 each.

python benchmarks/replay_speed.py [--replicas 1]
"""

import argparse
import time

import numpy as np

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.live.traffic import read_trace
from meted.predict.batching import Served
from meted.predict.replay import busy_micros, latencies, quantile, replay_fleet
from meted.predict.roofline import Setup, predict_replica
from meted.testing.public_data import data_folder

TRACE = "AzureLLMInferenceTrace_code.csv"
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1)
    replicas = parser.parse_args().replicas
    setup = Setup(
        architecture=lookup_architecture("llama-2-7b"),
        kind=lookup_device_kind("a100-80gb"),
        algorithm=ServingAlgorithm(max_batch=256, chunk_tokens=2048),
    )
    arrivals = read_trace(data_folder("azure") / TRACE)
    fleet = [predict_replica(setup)] * replicas
    spent: list[float] = []
    served: tuple[Served, ...] = ()
    for _ in range(ROUNDS):
        started = time.process_time()
        served = replay_fleet(fleet, arrivals)
        spent.append(time.process_time() - started)
    felt = latencies(served)
    window = max(one.last_token for one in served) - arrivals[0].at
    busy = sum(busy_micros(served, place) for place in range(replicas)) / replicas / window
    middle = float(np.median(spent))
    print(
        f"{len(arrivals)} requests in {window / 1e6:.0f} s on {replicas} replicas, busy "
        f"{100 * busy:.0f} %: TTFT p50 {quantile(felt.ttft, 0.5) / 1e3:.0f} ms, p99 "
        f"{quantile(felt.ttft, 0.99) / 1e3:.0f} ms, {sum(one.preempted for one in served)} "
        f"preemptions"
    )
    print(
        f"CPU-seconds: median {middle:.3f}, {min(spent):.3f} to {max(spent):.3f} in {ROUNDS} "
        f"rounds; {len(arrivals) / middle:,.0f} requests a CPU-second"
    )


if __name__ == "__main__":
    main()
