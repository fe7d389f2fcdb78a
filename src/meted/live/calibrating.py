"""A few batches on the real engine, chosen to tell most, and the calibration that they make."""

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from meted.live.calibrations import CHUNK_TOKENS, Belief
from meted.live.step_probe import Shape, ShapeTimes
from meted.predict.batch import Batch, prefill_steps
from meted.predict.calibration import Calibration, MeasuredStep, calibrate
from meted.predict.probing import choose_probes
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork

POINTS = 6
CANDIDATES = tuple(
    # The first answer must outlast the last prompt, so that some steps only decode.
    Shape(batch=batch, prompt=prompt, output=24 + 2 * batch * prompt // CHUNK_TOKENS)
    for batch in (1, 2, 4, 8, 16)
    for prompt in (32, 128, 256, 512, 1024)
)
MOST_PREFILL_POINTS = 3
BUSY = 0.9
"""An undisturbed engine keeps its threads busy for 0.97 to 1.0 of the wall time; beside one other
busy process on its two cores it was 0.5 to 0.87 (2 AMX cores, OpenVINO 2026.4, 2026-11-26)."""
TRIES = 3
PATIENCE_S = 5.0
LATEST_REPEAT_S = 60.0
"""A probe begins no repeat after this, to end within two minutes."""


class ProbeError(RuntimeError):
    """The engine could not be timed."""


class StepProbe:
    """The engine in a child process, answering one shape after the other."""

    def __init__(self, folder: Path, *, threads: int, max_batch: int = 16) -> None:
        self.threads = threads
        self._child = subprocess.Popen(
            [
                *(sys.executable, "-m", "meted.live.step_probe", "--folder", str(folder)),
                *("--threads", str(threads), "--max-batch", str(max_batch)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def time(self, shape: Shape) -> ShapeTimes:
        """Run a shape once. Raises ProbeError with the engine's own words if it cannot."""
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(msgspec.json.encode(shape) + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._child.stdout.readline()
        if not line:
            assert self._child.stderr is not None
            said = self._child.stderr.read().decode(errors="replace").strip().splitlines()
            raise ProbeError(f"the engine ended: {said[-1] if said else 'it said nothing'}")
        return msgspec.json.decode(line, type=ShapeTimes)

    def time_quietly(self, shape: Shape, *, until: float = math.inf) -> tuple[ShapeTimes, bool]:
        """Run a shape, again after a pause while others take its cores; and whether they did to
        the last. until: on the monotonic clock, no repeat begins after it."""
        times = self.time(shape)
        for _ in range(TRIES - 1):
            if busy_share(times, self.threads) >= BUSY or time.monotonic() > until:
                break
            time.sleep(PATIENCE_S)
            times = self.time(shape)
        return times, busy_share(times, self.threads) < BUSY

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()
        for pipe in (self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def busy_share(times: ShapeTimes, threads: int) -> float:
    """Share of the wall time for which the engine's threads had a processor."""
    wall = sum(one.micros for one in times.steps)
    return sum(one.cpu_micros for one in times.steps) / (wall * threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """A shape's steps told apart: those with prompt tokens, and the usual step of all requests."""

    prefill: tuple[tuple[StepWork, float], ...]
    decode: tuple[StepWork, float]

    @property
    def prefill_micros(self) -> float:
        return sum(micros for _, micros in self.prefill)


def phases(times: ShapeTimes) -> Phases:
    """The decode step has the median time of those that only decode, and their mean context."""
    batch = times.shape.batch
    prefill = tuple((one.work, one.micros) for one in times.steps if one.work.prefill_tokens)
    alone = [
        one
        for one in times.steps
        if not one.work.prefill_tokens and one.work.decode_tokens == batch
    ]
    if not prefill or not alone:
        raise ProbeError(f"{times.shape} gave no step of each phase; ask for a longer output")
    context = round(statistics.fmean(one.work.context_tokens for one in alone))
    work = StepWork(prefill_tokens=0, decode_tokens=batch, context_tokens=context)
    return Phases(prefill=prefill, decode=(work, statistics.median(one.micros for one in alone)))


def points_of(setup: Setup, times: ShapeTimes) -> list[MeasuredStep]:
    """A shape's measured steps for calibration: its decode step, and at most three with prompts,
    the first, the middle and the last."""
    found = phases(times)
    some = list(found.prefill)
    if len(some) > MOST_PREFILL_POINTS:
        some = [some[0], some[len(some) // 2], some[-1]]
    return [
        MeasuredStep(setup=setup, work=work, micros=micros)
        for work, micros in (*some, found.decode)
    ]


def shape_works(shape: Shape) -> list[StepWork]:
    """The steps of a shape as they will be: its chunks of prompts, and its usual decode step."""
    batch = Batch(requests=shape.batch, prompt=shape.prompt, output=shape.output)
    chunks = prefill_steps(batch, CHUNK_TOKENS)
    if len(chunks) > MOST_PREFILL_POINTS:
        chunks = [chunks[0], chunks[len(chunks) // 2], chunks[-1]]
    return [*chunks, batch.steady_step()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A calibration made on purpose. disturbed: shapes during which others took the cores."""

    calibration: Calibration
    shapes: tuple[ShapeTimes, ...]
    disturbed: int
    seconds: float


def calibrate_here(
    belief: Belief, folder: Path, *, threads: int, say: Callable[[str], None], count: int = POINTS
) -> Probed:
    """Measure the shapes that tell most about all the candidates, and fit to those that nobody
    disturbed.

    Raises ProbeError if all were disturbed.
    """
    began = time.monotonic()
    setup = belief.setup
    shapes = affordable(belief.before, setup)
    chosen = choose_probes([[(setup, one) for one in shape_works(s)] for s in shapes], count)
    points: list[MeasuredStep] = []
    measured: list[ShapeTimes] = []
    disturbed = 0
    with StepProbe(folder, threads=threads) as probe:
        probe.time(Shape(batch=1, prompt=16, output=4))
        for number, index in enumerate(chosen, 1):
            shape = shapes[index]
            times, noisy = probe.time_quietly(shape, until=began + LATEST_REPEAT_S)
            disturbed += noisy
            measured.append(times)
            if not noisy:
                points += points_of(setup, times)
            say(
                f"{number} of {count}: {shape.batch} x {times.prompt_tokens} tokens"
                f"{', disturbed by other processes' if noisy else ''}"
            )
    if not points:
        raise ProbeError(
            "other processes took the cores during every measurement, so nothing was learnt and "
            "the old calibration stays; repeat this on a quiet machine"
        )
    known = belief.before.points + count - disturbed
    calibration = replace(calibrate(points, belief.prior), points=known)
    return Probed(
        calibration=calibration,
        shapes=tuple(measured),
        disturbed=disturbed,
        seconds=time.monotonic() - began,
    )


def affordable(before: Calibration, setup: Setup, *, seconds: float = 10.0) -> Sequence[Shape]:
    """The candidates that take no longer than this each, by what is believed."""
    step: Any = before.replica(setup).step

    def micros(shape: Shape) -> float:
        batch = Batch(requests=shape.batch, prompt=shape.prompt, output=shape.output)
        steps = prefill_steps(batch, CHUNK_TOKENS)
        return sum(map(step.micros, steps)) + shape.output * step.micros(batch.steady_step())

    found = [one for one in CANDIDATES if micros(one) <= seconds * 1e6]
    return found if len(found) >= POINTS else sorted(CANDIDATES, key=micros)[: 2 * POINTS]
