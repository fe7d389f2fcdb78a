"""The real engine on chosen batches, timed step by step, in a process of its own.

    python -m meted.live.step_probe --folder CHECKPOINT --threads 2

reads one `Shape` as a JSON line and answers with one line, the `ShapeTimes` measured.
"""

import argparse
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meted.domain.request import EngineRequest, Sampling, TextPrompt
from meted.domain.units import RequestId
from meted.live.engine import Engine
from meted.live.leash import die_with_parent
from meted.predict.step_time import StepWork, work_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A batch of equal requests that arrive together. prompt, output: tokens of each."""

    batch: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """One step of the engine, its wall time, and the processor time of all its threads."""

    work: StepWork
    micros: float
    cpu_micros: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeTimes:
    """What a shape took. prompt_tokens: of each request as the engine counted them."""

    shape: Shape
    prompt_tokens: int
    steps: tuple[TimedStep, ...]


def time_shape(engine: Engine, shape: Shape, *, seed: int) -> ShapeTimes:
    """Answer the shape's requests. Their prompts are random digits, so that none is cached."""
    rng = random.Random(seed)
    tokens = shape.prompt
    for number in range(shape.batch):
        text = "".join(rng.choice("0123456789") for _ in range(shape.prompt))
        tokens = engine.add(
            EngineRequest(
                request_id=RequestId(f"{seed}-{number}"),
                prompt=TextPrompt(text=text),
                sampling=Sampling(max_tokens=shape.output, temperature=0.0, ignore_eos=True),
            )
        )
    steps: list[TimedStep] = []
    while engine.busy:
        began, cpu_began = time.perf_counter_ns(), time.process_time_ns()
        step = engine.step()
        micros = (time.perf_counter_ns() - began) / 1000
        cpu_micros = (time.process_time_ns() - cpu_began) / 1000
        if step.shares:
            work = work_of(step.shares)
            steps.append(TimedStep(work=work, micros=micros, cpu_micros=cpu_micros))
    return ShapeTimes(shape=shape, prompt_tokens=tokens, steps=tuple(steps))


def main() -> int:
    """Until the input ends."""
    parser = argparse.ArgumentParser(description="Time the engine on batches of one shape.")
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--max-batch", type=int, default=16)
    arguments = parser.parse_args()
    die_with_parent()
    from meted.live.engines.openvino import OpenVinoEngine

    engine = OpenVinoEngine(
        folder=arguments.folder, threads=arguments.threads, max_batch=arguments.max_batch
    )
    read, write = msgspec.json.Decoder(Shape), msgspec.json.Encoder()
    seed = time.time_ns()
    for line in sys.stdin.buffer:
        seed += 1
        sys.stdout.buffer.write(write.encode(time_shape(engine, read.decode(line), seed=seed)))
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
