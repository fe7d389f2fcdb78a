"""How far the closed form of latency is from a long replay: Llama-3.1-8B on one A100.

python benchmarks/closed_forms.py
"""

import numpy as np

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.predict.latency import draw_arrivals, predict_latency
from meted.predict.queueing import Traffic
from meted.predict.replay import latencies, replay
from meted.predict.roofline import Setup, predict_replica

LENGTHS = ((200, 100), (1_000, 200), (3_000, 300), (100, 400))
RATES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
SHARES = (0.5, 0.75, 0.9)
REQUESTS = 4_000
WARM_UP = 400


def main() -> None:
    replica = predict_replica(
        Setup(
            architecture=lookup_architecture("llama-3.1-8b"),
            kind=lookup_device_kind("a100-80gb"),
            algorithm=ServingAlgorithm(max_batch=256, chunk_tokens=2048),
        )
    )
    errors: dict[float, list[tuple[float, float, float]]] = {share: [] for share in SHARES}
    left = 0
    for prompt, output in LENGTHS:
        for rate in RATES:
            traffic = Traffic(arrivals_per_second=rate, prompt_tokens=prompt, output_tokens=output)
            arrivals = draw_arrivals(traffic, REQUESTS, seed=1)
            felt = latencies(replay(replica, arrivals)[WARM_UP:])
            for share in SHARES:
                told = predict_latency(replica, traffic, share=share, seed=0, requests=10)
                if told.simulated:
                    left += 1
                    continue
                errors[share].append(
                    (
                        told.ttft.expected / float(np.quantile(felt.ttft, share)) - 1,
                        told.tpot.expected / float(np.quantile(felt.tpot, share)) - 1,
                        told.e2e.expected / float(np.quantile(felt.e2e, share)) - 1,
                    )
                )
    print(f"{left} of {len(LENGTHS) * len(RATES) * len(SHARES)} are left to replay")
    for share, rows in errors.items():
        table = 100 * np.array(rows)
        told = "; ".join(
            f"{name} mean {np.abs(column).mean():.1f} %, {column.min():+.1f} to {column.max():+.1f}"
            for name, column in zip(("TTFT", "TPOT", "E2E"), table.T, strict=True)
        )
        print(f"p{100 * share:.0f} ({len(rows)} cases): {told}")


if __name__ == "__main__":
    main()
