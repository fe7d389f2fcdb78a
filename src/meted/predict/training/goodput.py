"""Goodput of a training run: what failures, checkpoints and restarts leave of its time."""

import math
from dataclasses import dataclass

MTBF_DEVICE_HOURS = 16_384 * 54 * 24 / 419
"""Device-hours between interruptions: 419 unexpected ones in 54 days of Llama 3 405B on 16,384
H100 (Llama team 2024, section 3.3.4). Their 47 planned ones are left out."""

RESTART_SECONDS = 900.0
"""From a failure to the next productive step, the loading of the checkpoint aside: to notice it,
to replace the node, to start anew. Our guess: the Llama 3 report's effective training time above
90 % at 7.8 failures a day leaves at most 18 minutes for each, lost steps included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """productive: share of the time that goes into steps that are kept. expected_failures: over
    the whole run. Hours lost: to writing checkpoints, to steps done again, to restarts."""

    productive: float
    checkpoint_interval_seconds: float
    checkpoint_seconds: float
    mtbf_hours: float
    expected_failures: float
    checkpoint_hours: float
    rework_hours: float
    restart_hours: float


def young_daly_seconds(*, checkpoint_seconds: float, mtbf_seconds: float) -> float:
    """Working time between checkpoints that loses least: Daly's (2006) higher-order optimum, which
    for short checkpoints is Young's (1974) sqrt(2 C M).

    sqrt(2 C M) (1 + sqrt(C / 2M) / 3 + C / 18M) - C for C < 2M, else M.
    """
    part = checkpoint_seconds / (2 * mtbf_seconds)
    if part >= 1:
        return mtbf_seconds
    first = math.sqrt(2 * checkpoint_seconds * mtbf_seconds)
    return first * (1 + math.sqrt(part) / 3 + part / 9) - checkpoint_seconds


def wall_per_work(
    *,
    interval_seconds: float,
    checkpoint_seconds: float,
    mtbf_seconds: float,
    restart_seconds: float,
) -> float:
    """Expected wall time over productive time, with failures that come at random (exponential).

    M e^(R/M) (e^((T + C)/M) - 1) / T (Daly 2006, equation 20): failures during checkpoints and
    restarts are counted too.
    """
    with_checkpoint = (interval_seconds + checkpoint_seconds) / mtbf_seconds
    again = math.exp(restart_seconds / mtbf_seconds)
    return mtbf_seconds * again * math.expm1(with_checkpoint) / interval_seconds


class FailuresError(ValueError):
    """Failures come so fast that next to nothing of a run is kept."""


def goodput(
    *,
    productive_hours: float,
    devices: int,
    checkpoint_bytes: float,
    storage_bytes_per_second: float,
    mtbf_device_hours: float = MTBF_DEVICE_HOURS,
    restart_seconds: float = RESTART_SECONDS,
) -> Goodput:
    """Goodput of a run of so many productive hours on `devices`, of which each failure stops all.

    A checkpoint stops the training while it is written, at the storage's bandwidth; a restart
    reads it as fast. Raises FailuresError if failures come so fast that next to nothing is kept.
    """
    mtbf = mtbf_device_hours * 3600 / devices
    write = checkpoint_bytes / storage_bytes_per_second
    if write + restart_seconds > 20 * mtbf:
        raise FailuresError(
            f"checkpoint and restart take {write + restart_seconds:.0f} s on {devices} devices, of "
            f"which one fails every {mtbf:.0f} s, expected less: fewer devices or faster storage"
        )
    interval = young_daly_seconds(checkpoint_seconds=write, mtbf_seconds=mtbf)
    # A run shorter than the interval writes one checkpoint, its result.
    interval = max(1.0, min(interval, productive_hours * 3600))
    factor = wall_per_work(
        interval_seconds=interval,
        checkpoint_seconds=write,
        mtbf_seconds=mtbf,
        restart_seconds=write + restart_seconds,
    )
    hours = productive_hours * factor
    failures = hours * 3600 / mtbf
    writing = productive_hours * write / interval
    restarting = failures * (write + restart_seconds) / 3600
    return Goodput(
        productive=1 / factor,
        checkpoint_interval_seconds=interval,
        checkpoint_seconds=write,
        mtbf_hours=mtbf / 3600,
        expected_failures=failures,
        checkpoint_hours=writing,
        rework_hours=max(0.0, hours - productive_hours - writing - restarting),
        restart_hours=restarting,
    )
