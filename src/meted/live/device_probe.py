"""What a group of this machine's cores can do, measured once in a process of its own.

    python -m meted.live.device_probe --threads 2

Arithmetic by the engine's own kernels at each precision, memory by a large copy. Each is measured
several times; where the repeats differ, somebody else uses the cores, and the probe says so.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import argparse
import logging
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil

from meted.domain.device_kind import DeviceKind, Link, Precision
from meted.live.leash import cap_threads, die_with_parent

log = logging.getLogger(__name__)

REPEATS = 5
REPEAT_SECONDS = 0.04
COPY_BYTES = 96 << 20
ROWS, WIDTH = 256, 2048
AGREE = 1.25
"""Repeats agree if the median takes at most this many times the fastest: on two idle x86 cores it
is 1.01 to 1.10, beside one busy process 1.3 and more (2 AVX-512 cores, 2026-11-26)."""
BUSY = 0.85
"""Share of the wall time for which undisturbed threads have a core: 0.95 and more here, down to 0.5
beside one busy process."""
TIMEOUT_S = 20.0
WATTS_PER_CORE = 6.0
"""A server core under load, about: 350 W over 56 to 64 cores of current Xeon and EPYC (vendors'
TDP). Not measured: virtual machines do not tell their power."""


class CoreGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured: of `threads` cores together, in FLOP and bytes per second.

    contended: the repeats differed, so the figures are too low to be trusted.
    """

    cpu: str
    threads: int
    flops: dict[Precision, float]
    bandwidth: float
    memory_bytes: int
    seconds: float
    contended: bool


def device_kind(group: CoreGroup) -> DeviceKind:
    """The measured cores as one device."""
    memory = Link(bytes_per_second=group.bandwidth, latency_micros=1.0)
    return DeviceKind(
        name=kind_name(group.cpu, group.threads),
        title=f"{group.threads} cores of {group.cpu}",
        peak_flops=group.flops,
        memory_bytes=group.memory_bytes,
        bandwidth=group.bandwidth,
        node_devices=1,
        link=memory,
        network=memory,
        watts_busy=WATTS_PER_CORE * group.threads,
        watts_idle=WATTS_PER_CORE * group.threads / 3,
        source="measured on this machine by meted.live.device_probe",
    )


def kind_name(cpu: str, threads: int) -> str:
    """`cpu-core-x2-intel-xeon-processor-167`: a group of cores of one processor model."""
    return f"cpu-core-x{threads}-{re.sub(r'[^a-z0-9]+', '-', cpu.lower()).strip('-')}"


def cpu_model() -> str:
    """The processor's name and model number, as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    said = dict[str, str]()
    for line in lines:
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    return f"{said.get('model name', platform.machine())} {said.get('model', '')}".strip()


class ProbedDevices:
    """Core groups that were measured, kept in a folder by processor model and number of cores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self, threads: int) -> CoreGroup | None:
        """What an earlier measurement found, or None."""
        try:
            return msgspec.json.decode(self._path(threads).read_bytes(), type=CoreGroup)
        except (OSError, msgspec.DecodeError):
            return None

    def measure(self, threads: int) -> CoreGroup:
        """Measure now, in a child, and wait for it: two seconds.

        Raises RuntimeError if it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "meted.live.device_probe", "--threads", str(threads)],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        try:
            return self.keep(msgspec.json.decode(done.stdout, type=CoreGroup))
        except msgspec.DecodeError as error:
            said = done.stderr.decode(errors="replace")[-500:]
            raise RuntimeError(f"this machine's cores could not be measured: {said}") from error

    def take(self, said: Path) -> CoreGroup | None:
        """Keep what a probe wrote to a file; None if it did not come to its end."""
        try:
            return self.keep(msgspec.json.decode(said.read_bytes(), type=CoreGroup))
        except (OSError, msgspec.DecodeError):
            return None
        finally:
            said.unlink(missing_ok=True)

    def keep(self, found: CoreGroup) -> CoreGroup:
        """Remember a measurement, unless it was disturbed and a good one is there; what holds."""
        before = self.known(found.threads)
        if found.contended:
            log.warning("others use the cores of %s: its measured speed is too low", found.cpu)
            if before is not None and not before.contended:
                return before
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(found.threads)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        draft.replace(path)
        return found

    def _path(self, threads: int) -> Path:
        return self._folder / f"{kind_name(cpu_model(), threads)}.json"


def probe(threads: int) -> CoreGroup:
    """Measure this process's cores with so many threads; about a second."""
    began = time.perf_counter()
    steady: list[bool] = []
    flops: dict[Precision, float] = {}
    for precision in (Precision.FP32, Precision.BF16, Precision.INT8):
        run = _matmul(precision, threads)
        if run is not None:
            seconds, agreed = _fastest(run, threads)
            steady.append(agreed)
            flops[precision] = 2 * ROWS * WIDTH * WIDTH / seconds
    seconds, agreed = _fastest(_copy(threads), threads)
    return CoreGroup(
        cpu=cpu_model(),
        threads=threads,
        flops=flops,
        bandwidth=2 * COPY_BYTES / seconds,
        memory_bytes=psutil.virtual_memory().total,
        seconds=time.perf_counter() - began,
        contended=not (agreed and all(steady)),
    )


def _fastest(run: Callable[[], None], threads: int) -> tuple[float, bool]:
    """Seconds of the fastest of several repeats; and whether the others agree with it, and the
    threads had their cores all the time."""
    run()
    times: list[float] = []
    cpu_began, began_all = time.process_time(), time.perf_counter()
    for _ in range(REPEATS):
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < REPEAT_SECONDS:
            run()
            count += 1
        times.append(elapsed / count)
    used = time.process_time() - cpu_began
    busy = used / (threads * (time.perf_counter() - began_all))
    return min(times), busy >= BUSY and statistics.median(times) <= AGREE * min(times)


def _matmul(precision: Precision, threads: int) -> Callable[[], None] | None:
    """A matrix product as the engine computes it; None if it cannot at this precision.

    int8: weights of 8 bits, as they are served, with activations quantised on the way.
    """
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    core = ov.Core()
    x: Any = op.parameter([-1, WIDTH], np.float32)
    rng = np.random.default_rng(0)
    weights: Any
    if precision is Precision.INT8:
        bits: Any = op.constant(rng.integers(0, 255, (WIDTH, WIDTH), dtype=np.uint8))
        middle: Any = op.convert(op.constant(np.full((WIDTH, 1), 128, np.uint8)), "f32")
        scale: Any = op.constant(np.full((WIDTH, 1), 0.01, np.float32))
        weights = op.multiply(op.subtract(op.convert(bits, "f32"), middle), scale)
    else:
        weights = op.constant(rng.standard_normal((WIDTH, WIDTH), dtype=np.float32))
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    if precision is not Precision.INT8:
        settings["INFERENCE_PRECISION_HINT"] = "f32" if precision is Precision.FP32 else "bf16"
        capable: Any = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision is Precision.BF16 and "BF16" not in capable:
            return None
    model: Any = cast(Any, ov.Model)([op.matmul(x, weights, False, True)], [x], "product")
    request: Any = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.standard_normal((ROWS, WIDTH), dtype=np.float32)))
    return lambda: request.infer()


def _copy(threads: int) -> Callable[[], None]:
    """A copy by all threads: reads and writes `COPY_BYTES` each way in all."""
    import numpy as np

    size = COPY_BYTES // threads
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def copy(pair: Any) -> None:
        np.copyto(pair[1], pair[0])

    def run() -> None:
        for _ in pool.map(copy, pairs):
            pass

    return run


def main() -> int:
    """Measure, and say it as one JSON object."""
    parser = argparse.ArgumentParser(description="Measure what this machine's cores can do.")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=Path, help="Write it to this file instead.")
    arguments = parser.parse_args()
    die_with_parent()
    cap_threads(arguments.threads)
    said = msgspec.json.encode(probe(arguments.threads))
    if arguments.out is None:
        sys.stdout.buffer.write(said)
    else:
        arguments.out.write_bytes(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
