"""Work drawn anew: requests and jobs like those of a trace, or of a few numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.job_traces import TracedJob
from meted.sim.generators import (
    DAY,
    Diurnal,
    Modulated,
    Process,
    Renewal,
    draw_arrivals,
    fit_diurnal,
    fit_modulated,
    fit_renewal,
)
from meted.sim.lengths import Lengths, draw_pairs
from meted.sim.scenario import SimRequest

DIURNAL, BURSTY, MODULATED = "diurnal", "bursty", "modulated"
GENERATED = (DIURNAL, BURSTY, MODULATED)
SIGMA = 0.7
"""Deviation of a length's logarithm where no trace says it, as `meted plan` draws chats."""
STAY = 600.0
"""Mean seconds at each rate of a modulated process, half of those at both."""
LEVELS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """How long requests are. together: correlation of prompt and output, of their normal scores."""

    prompt: Lengths
    output: Lengths
    together: float = 0.0


def fitted(
    process: str, moments: Sequence[float], *, period: float = DAY, rate: float | None = None
) -> Process:
    """Arrivals like those at `moments`, in seconds; rate: another mean, in arrivals per second."""
    if process == BURSTY:
        found: Process = fit_renewal(moments)
    elif process == MODULATED:
        found = fit_modulated(moments)
    else:
        found = fit_diurnal(moments, period=period, levels=LEVELS)
    return found if rate is None else _scaled(found, rate / found.rate)


def _scaled(process: Process, factor: float) -> Process:
    match process:
        case Renewal():
            return replace(process, rate=process.rate * factor)
        case Modulated():
            return replace(process, low=process.low * factor, high=process.high * factor)
        case Diurnal():
            return replace(process, rates=tuple(one * factor for one in process.rates))


def from_numbers(
    process: str, *, rate: float, peak: float, cv: float | None, period: float = DAY
) -> Process:
    """Arrivals with a mean rate. peak: the largest rate over the mean. cv: of gaps; None: usual.

    Raises ValueError for a peak that cannot be.
    """
    if not 1 < peak < LEVELS:
        raise ValueError(f"peak is {peak:g}, expected above 1 and below {LEVELS}")
    if process == BURSTY:
        return Renewal(rate=rate, cv=3.0 if cv is None else cv)
    if process == MODULATED:
        # Above twice the mean the busy time must be shorter than the calm one.
        busy = min(1.0, 2.0 / peak) * STAY
        return Modulated(
            low=rate * max(0.0, 2.0 - peak),
            high=rate * peak,
            stay_low=2 * STAY - busy,
            stay_high=busy,
        )
    rates = tuple(float(rate * share) for share in _wave(peak))
    return Diurnal(rates=rates, period=period, cv=1.0 if cv is None else cv)


def _wave(peak: float) -> np.ndarray:
    """A day's rates over their mean: a bell on a circle (von Mises) whose top is `peak`."""
    angles = 2 * np.pi * (np.arange(LEVELS) + 0.5) / LEVELS

    def wave(sharp: float) -> np.ndarray:
        bell = np.exp(sharp * (-np.cos(angles) - 1.0))
        return bell / bell.mean()

    sharp = brentq(lambda one: float(wave(one).max()) - peak, 0.0, 500.0)
    return wave(float(sharp))


def usual_lengths(mean: float) -> Lengths:
    """Lognormal lengths with that mean, none beyond twenty times it."""
    return Lengths(
        mu=float(np.log(max(1.0, mean))) - SIGMA**2 / 2, sigma=SIGMA, least=1.0, most=20 * mean
    )


def drawn_requests(
    arrivals: Process, lasting: Lasting, span: float, seed: int
) -> tuple[SimRequest, ...]:
    """Requests of `span` seconds."""
    moments = draw_arrivals(arrivals, span, seed=seed)
    rng = np.random.default_rng((seed, 1))
    prompts, outputs = draw_pairs(
        lasting.prompt, lasting.output, lasting.together, len(moments), rng=rng
    )
    return tuple(
        SimRequest(Micros(int(at * MICROS_PER_SECOND)), max(1, round(ins)), max(1, round(out)))
        for at, ins, out in zip(moments.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
    )


def drawn_jobs(
    jobs: Sequence[TracedJob], arrivals: Process, seconds: Lengths, span: float, seed: int
) -> tuple[TracedJob, ...]:
    """Kinds of jobs as often as in the trace, durations from the fitted lengths."""
    moments = draw_arrivals(arrivals, span, seed=seed)
    rng = np.random.default_rng((seed, 1))
    chosen = rng.integers(len(jobs), size=len(moments))
    durations = seconds.quantile(rng.random(len(moments)))
    return tuple(
        replace(
            moved(jobs[int(place)], Micros(int(at * MICROS_PER_SECOND))),
            name=f"job-{number:05}",
            steps=max(1.0, duration * fastest(jobs[int(place)])),
        )
        for number, (at, place, duration) in enumerate(
            zip(moments.tolist(), chosen.tolist(), durations.tolist(), strict=True), start=1
        )
    )


def fastest(job: TracedJob) -> float:
    """Its largest steps per second."""
    return max(one.steps_per_second for one in job.options)


def moved(job: TracedJob, moment: Micros) -> TracedJob:
    """The job at another moment, its deadline as long after it as it was."""
    deadline = None if job.deadline is None else Micros(job.deadline - job.arrived + moment)
    return replace(job, arrived=moment, deadline=deadline)
