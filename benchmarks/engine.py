"""What the house costs an engine: tokens/s behind the gateway over tokens/s called directly.

The direct side is the bare pipeline in a process of its own, driven by nothing but a loop with the
same settings, the same prompts and answer lengths and as many requests in flight; the other side
are clients over HTTP, answered whole or streamed, with keys, metering and books. All take turns in
one run, on the same cores as their clients.

    python benchmarks/engine.py --seconds 20 --repeats 3
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from load import Shape, body, closed_loop
from meted.testing.house import RealHouse, machine, shared_checkpoints

MODEL = "smollm2-135m"
SHAPE = Shape(prompt_words=(20, 60), answer_tokens=(96, 128))


def direct() -> None:
    """The child: read `concurrency seconds seed` lines, answer tokens per second."""
    folder = Path(sys.argv[2])
    import openvino_genai as genai

    from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
    from meted.live.engines.openvino import BATCH_TOKENS

    checkpoint = CheckpointRegistry(folder).get(MODEL)
    tokenizer = load_tokenizer(checkpoint)
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_batched_tokens = BATCH_TOKENS
    scheduler.max_num_seqs = 16
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    pipeline = genai.ContinuousBatchingPipeline(
        str(checkpoint.folder),
        tokenizer,
        scheduler,
        "CPU",
        INFERENCE_NUM_THREADS=2,
        ENABLE_CPU_PINNING=False,
    )
    number = 0
    for line in sys.stdin:
        concurrency, seconds, seed = line.split()
        rngs = [random.Random(int(seed) * 1000 + i) for i in range(int(concurrency))]

        def add(rng: random.Random) -> Any:
            nonlocal number
            number += 1
            request = body(rng, MODEL, SHAPE)
            prompt = tokenizer.apply_chat_template(request["messages"], add_generation_prompt=True)
            config = genai.GenerationConfig()
            config.max_new_tokens = request["max_tokens"]
            config.ignore_eos = True
            ids = tokenizer.encode(prompt, add_special_tokens=False).input_ids
            return pipeline.add_request(number, ids, config), request["max_tokens"]

        began = time.perf_counter()
        running = [(rng, *add(rng)) for rng in rngs]
        tokens = 0
        while running:
            pipeline.step()
            still = []
            for rng, handle, left in running:
                while handle.can_read():
                    for output in handle.read().values():
                        tokens += len(output.generated_ids)
                        left -= len(output.generated_ids)
                if left > 0:
                    still.append((rng, handle, left))
                elif time.perf_counter() - began < float(seconds):
                    still.append((rng, *add(rng)))
            running = still
        print(tokens / (time.perf_counter() - began), flush=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn, for each concurrency."""
    checkpoints = shared_checkpoints()
    config = {"deployments": [{"name": MODEL}]}
    rows: list[dict[str, Any]] = []
    with RealHouse(config=config, cache=checkpoints) as house:
        child = subprocess.Popen(
            [sys.executable, __file__, "--direct", str(checkpoints)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None

        def ask_direct(concurrency: int, seconds: float, seed: int) -> float:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(f"{concurrency} {seconds} {seed}\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        def ask_house(concurrency: int, seconds: float, seed: int, *, stream: bool) -> float:
            seen = asyncio.run(
                closed_loop(
                    url=house.url,
                    key=house.key,
                    model=MODEL,
                    concurrency=concurrency,
                    seconds=seconds,
                    seed=seed,
                    shape=SHAPE,
                    stream=stream,
                )
            )
            failed = [one.error for one in seen if one.error]
            if failed:
                raise RuntimeError(failed[0])
            return sum(one.tokens for one in seen) / max(one.at + one.e2e for one in seen)

        ask_direct(4, 3, 0)
        ask_house(4, 3, 0, stream=True)
        for concurrency in (1, 4, 8):
            runs = [
                (
                    ask_direct(concurrency, arguments.seconds, seed),
                    ask_house(concurrency, arguments.seconds, seed, stream=False),
                    ask_house(concurrency, arguments.seconds, seed, stream=True),
                )
                for seed in range(1, arguments.repeats + 1)
            ]
            bare = statistics.median(run[0] for run in runs)
            for mode, index in (("whole", 1), ("streamed", 2)):
                ratios = [run[index] / run[0] for run in runs]
                rows.append(
                    {
                        "concurrency": concurrency,
                        "mode": mode,
                        "direct_tokens_per_second": bare,
                        "house_tokens_per_second": statistics.median(r[index] for r in runs),
                        "ratio_median": statistics.median(ratios),
                        "ratio_min": min(ratios),
                        "ratio_max": max(ratios),
                    }
                )
        child.stdin.close()
        child.wait()
    return {"machine": machine(), "rows": rows}


def main() -> None:
    """Parse, measure, show."""
    if sys.argv[1:2] == ["--direct"]:
        direct()
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    print(f"machine: {result['machine']}")
    print(
        f"{'requests':>9}{'answers':>10}{'direct tok/s':>14}{'house tok/s':>13}"
        f"{'ratio':>8}{'min':>7}{'max':>7}"
    )
    for row in result["rows"]:
        print(
            f"{row['concurrency']:9}{row['mode']:>10}{row['direct_tokens_per_second']:14.1f}"
            f"{row['house_tokens_per_second']:13.1f}{row['ratio_median']:8.3f}"
            f"{row['ratio_min']:7.3f}{row['ratio_max']:7.3f}"
        )


if __name__ == "__main__":
    main()
