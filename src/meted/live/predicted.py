"""What `meted predict` asks: the facts of a wish from files and measurements, then P."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.catalogue import lookup_device_kind
from meted.domain.device_kind import DeviceKind, Precision
from meted.live.calibrating import calibrate_here
from meted.live.calibrations import Belief, Calibrations, believe, served_setup
from meted.live.checkpoints import Checkpoint
from meted.live.config import HERE
from meted.live.device_probe import ProbedDevices, device_kind
from meted.live.facts import resolve_model
from meted.live.home import Home
from meted.predict.batch import Batch, prefill_steps
from meted.predict.cores import CORE_PREFIX
from meted.predict.latency import ServingPerformance
from meted.predict.performance import (
    Performance,
    batch_under_load,
    latency_under_load,
    predict_performance,
)
from meted.predict.setup import Setup

SHARES = (0.5, 0.99)


def local_kind(calibrations: Path, threads: int | None) -> DeviceKind:
    """This machine's cores, measured now if they never were."""
    probed = ProbedDevices(calibrations / "devices")
    count = threads or _cores()
    return device_kind(probed.known(count) or probed.measure(count))


def predicted(
    home: Home,
    *,
    model: str,
    device: str,
    devices: int,
    tensor: int | None,
    pipeline: int,
    prompt: int,
    output: int,
    batch: int,
    rate: float | None,
    weights: str | None,
    kv: str | None,
    price: float | None,
    threads: int | None,
) -> tuple[Setup, str, Performance, tuple[ServingPerformance, ...]]:
    """The setup that was meant, where its factors come from, its performance, and with a rate the
    latencies under Poisson arrivals at each of `SHARES`.

    Raises FactError or UnknownFactError for a model or device that is not known, DoesNotFitError,
    SaturatedError, and ValueError for what does not go together.
    """
    facts = resolve_model(model, home=home)
    kind = local_kind(home.calibrations, threads) if device == HERE else lookup_device_kind(device)
    tensor = tensor or max(1, devices // pipeline)
    if tensor * pipeline != devices:
        raise ValueError(
            f"{tensor} x {pipeline} devices are laid out, but {devices} are given; make --tp times "
            "--pp equal to --devices"
        )
    kept = Precision(weights) if weights else facts.weights
    belief = believe(
        Setup(
            architecture=facts.architecture,
            kind=kind,
            algorithm=usual_algorithm(
                kind, kept, kv, Parallelism(tensor=tensor, pipeline=pipeline)
            ),
        ),
        Calibrations(home.calibrations),
    )
    setup, calibration = belief.setup, belief.before
    load = Batch(requests=batch, prompt=prompt, output=output)
    if rate is not None:
        load = batch_under_load(setup, calibration, rate=rate, prompt=prompt, output=output)
    found = predict_performance(setup, calibration, load, usd_per_device_hour=price)
    felt: tuple[ServingPerformance, ...] = ()
    if rate is not None:
        felt = tuple(
            latency_under_load(
                setup, calibration, rate=rate, prompt=prompt, output=output, share=share
            )
            for share in SHARES
        )
    return setup, belief.origin, found, felt


def usual_algorithm(
    kind: DeviceKind,
    weights: Precision | None,
    kv: str | None = None,
    layout: Parallelism = Parallelism(),
) -> ServingAlgorithm:
    """The usual way to run such weights: the engine's own on cores; on accelerators fp8 computes as
    fp8 where it can, and other quantised weights are unpacked to 16 bits (W8A16, W4A16)."""
    cores = kind.name.startswith(CORE_PREFIX)
    weights = weights or (Precision.INT8 if cores else Precision.BF16)
    sixteen = (Precision.BF16, Precision.FP16, Precision.FP32)
    wanted = sixteen
    if cores and weights.bits < 16:
        wanted = (Precision.INT8, *sixteen)
    elif weights is Precision.FP8:
        wanted = (Precision.FP8, *sixteen)
    compute = next(one for one in wanted if one in kind.peak_flops)
    if kv is not None:
        cached = Precision(kv)
    else:
        cached = Precision.INT8 if cores else compute if compute.bits == 16 else Precision.BF16
    chunk = 256 if cores else 2048
    most = 16 if cores else 256
    return ServingAlgorithm(
        weights=weights,
        kv=cached,
        compute=compute,
        parallelism=layout,
        chunk_tokens=chunk,
        max_batch=most,
    )


def probe_here(
    home: Home, checkpoint: Checkpoint, *, threads: int | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Calibrate this machine for a checkpoint and keep it; JSON-ready, what changed by it."""
    count = threads or _cores()
    probed = ProbedDevices(home.calibrations / "devices")
    say("measuring the cores")
    kind = device_kind(probed.measure(count))
    kept = Calibrations(home.calibrations)
    belief = believe(served_setup(checkpoint, kind, max_batch=16), kept)
    done = calibrate_here(belief, checkpoint.folder, threads=count, say=say)
    kept.save(belief.setup, done.calibration)
    return {
        "checkpoint": checkpoint.name,
        "device": kind.title,
        "device_kind": kind.name,
        "engine": belief.key.engine,
        "points": len(done.shapes),
        "disturbed": done.disturbed,
        "seconds": done.seconds,
        "factors": asdict(done.calibration.factors),
        "steps": [
            _row(f"decode, {size} at once", belief, done.calibration, size) for size in (1, 4, 16)
        ]
        + [_row("prefill of 256 tokens", belief, done.calibration, None)],
    }


def _row(what: str, belief: Belief, now: Any, requests: int | None) -> dict[str, Any]:
    batch = Batch(requests=requests or 1, prompt=256, output=64)
    work = batch.steady_step() if requests else prefill_steps(batch, 256)[0]
    before, after = belief.before.predict(belief.setup, work), now.predict(belief.setup, work)
    return {
        "what": what,
        "before": before.expected / 1000,
        "low": after.low / 1000,
        "expected": after.expected / 1000,
        "high": after.high / 1000,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
