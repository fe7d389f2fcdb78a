"""What `--trace` names: recorded jobs or requests, or as many like them as one wants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meted.cli.simulate_generated import (
    GENERATED,
    Lasting,
    drawn_jobs,
    drawn_requests,
    fastest,
    fitted,
    from_numbers,
    moved,
    usual_lengths,
)
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.dollars import shortened
from meted.live.job_traces import (
    PhillyPart,
    TracedJob,
    read_gavel,
    read_philly,
    read_throughputs,
)
from meted.live.traffic import read_trace
from meted.live.traffic.prefixes import read_prefixes
from meted.sim.generators import DAY
from meted.sim.lengths import fit_lengths, score_correlation
from meted.sim.scenario import SimRequest

RECORDED = ("azure", "mooncake", "requests", "gavel", "philly")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "azure": ("most", "rate"),
    "mooncake": ("most", "rate"),
    "requests": ("most", "rate"),
    "gavel": ("throughputs", "most"),
    "philly": ("week", "cluster", "share", "gpus", "most"),
}
OF_GENERATED = ("rate", "hours", "period", "input", "output", "cv", "peak")
THROUGHPUTS = "simulation_throughputs.json"
HOUR = 3_600.0


class SpecError(ValueError):
    """A --trace that cannot be understood: which part, its value, what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Jobs or requests that come, and a sentence about them."""

    jobs: tuple[TracedJob, ...] = ()
    requests: tuple[SimRequest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """told: where it comes from. draw: the work of a seed; 0 is a recorded trace as it is."""

    told: str
    jobs: bool
    draw: Callable[[int], Work]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    kind: str
    path: Path | None
    settings: Mapping[str, str]

    def number(self, name: str, default: float | None = None) -> float:
        text = self.settings.get(name)
        if text is None:
            if default is None:
                raise SpecError(f"--trace {self.kind} lacks {name}; add ,{name}=NUMBER")
            return default
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found < float("inf"):
            raise SpecError(f"--trace: {name} is {shortened(text)}, expected a number, 0 or more")
        return found

    def whole(self, name: str) -> int | None:
        if name not in self.settings:
            return None
        found = self.number(name)
        if found != int(found):
            raise SpecError(f"--trace: {name} is {found:g}, expected a whole number")
        return int(found)


def read_source(text: str, *, span: float | None = None) -> Source:
    """What a --trace names. span: seconds that generated work lasts unless it says `hours`.

    `gavel:PATH[,throughputs:PATH]`, `philly:PATH[,week=1,share=0.1]`, `azure:PATH`,
    `mooncake:PATH`; `diurnal:`, `bursty:` or `modulated:` before any of these, or before
    `rate=2,input=1000,output=200`. Raises SpecError, JobTraceError or TrafficError.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix in GENERATED:
        return _generated(prefix, rest, span)
    return _recorded(_spec(text, more=()))


def _spec(text: str, *, more: Sequence[str]) -> _Spec:
    """Kind, path and settings of a recorded trace; without a path, settings of numbers alone."""
    prefix, colon, rest = text.partition(":")
    kind = prefix if colon and prefix in RECORDED else ""
    parts = (rest if kind else text).split(",")
    path = None
    if not _is_setting(parts[0], more):
        path = Path(parts.pop(0)).expanduser()
        if not path.is_file():
            raise SpecError(
                f"--trace {text}: {path} is no file; expected KIND:PATH with a kind of "
                f"{', '.join((*RECORDED, *GENERATED))}"
            )
        kind = kind or _kind_of(path)
    settings: dict[str, str] = {}
    known = (*SETTINGS.get(kind, ()), *more)
    for part in parts:
        name, value = _pair(part)
        if name not in known or not value:
            raise SpecError(
                f"--trace {text} says {shortened(part)}, expected NAME=VALUE with a name of "
                f"{', '.join(known)}"
            )
        settings[name] = value
    return _Spec(kind=kind, path=path, settings=settings)


def _is_setting(part: str, names: Sequence[str]) -> bool:
    return _pair(part)[0] in names


def _pair(part: str) -> tuple[str, str]:
    at = min((place for sign in "=:" if (place := part.find(sign)) > 0), default=len(part))
    return part[:at].strip(), part[at + 1 :].strip()


def _kind_of(path: Path) -> str:
    if path.suffix == ".trace":
        return "gavel"
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        head = lines.readline()
    if "num_gpus" in head:
        return "philly"
    return "gavel" if head.count("\t") > 5 else "requests"


def _recorded(spec: _Spec) -> Source:
    assert spec.path is not None, "a recorded trace has a path"
    if spec.kind in ("gavel", "philly"):
        jobs = _jobs(spec)
        told = f"{len(jobs)} jobs of {spec.path.name}"
        return Source(told=told, jobs=True, draw=lambda seed: Work(jobs=shuffled(jobs, seed)))
    requests = _requests(spec)
    told = f"{len(requests)} requests of {spec.path.name}"
    return Source(told=told, jobs=False, draw=lambda seed: Work(requests=rotated(requests, seed)))


def _jobs(spec: _Spec) -> tuple[TracedJob, ...]:
    assert spec.path is not None, "a recorded trace has a path"
    if spec.kind == "gavel":
        given = spec.settings.get("throughputs")
        beside = [folder / THROUGHPUTS for folder in spec.path.absolute().parents[:4]]
        table = Path(given).expanduser() if given else next(filter(Path.is_file, beside), None)
        if table is None:
            raise SpecError(
                f"--trace gavel: no {THROUGHPUTS} is beside {spec.path}; add ,throughputs:PATH"
            )
        jobs = read_gavel(spec.path, read_throughputs(table))
    else:
        part = PhillyPart(
            week=spec.whole("week"),
            cluster=spec.settings.get("cluster"),
            share=spec.number("share", 1.0),
            most_gpus=spec.whole("gpus"),
        )
        jobs = read_philly(spec.path, part)
    return tuple(jobs[: spec.whole("most")])


def _requests(spec: _Spec) -> tuple[SimRequest, ...]:
    assert spec.path is not None, "a recorded trace has a path"
    arrivals = read_trace(spec.path)
    prefixes = read_prefixes(spec.path) or [()] * len(arrivals)
    made = [
        SimRequest(one.at, one.prompt_tokens, one.output_tokens, prefix=prefix)
        for one, prefix in zip(arrivals, prefixes, strict=True)
    ]
    kept = tuple(made[: spec.whole("most")])
    if "rate" not in spec.settings or len(kept) < 2:
        return kept
    rate = spec.number("rate")
    if not rate > 0:
        raise SpecError(f"--trace: rate is {rate:g}, expected more than 0")
    own = (len(kept) - 1) * MICROS_PER_SECOND / max(1, kept[-1].at)
    return tuple(replace(one, at=Micros(round(one.at * own / rate))) for one in kept)


def shuffled(jobs: Sequence[TracedJob], seed: int) -> tuple[TracedJob, ...]:
    """Another job at each of the recorded moments; seed 0: the trace as it is. A deadline stays as
    long after its job's arrival as it was."""
    if seed == 0:
        return tuple(jobs)
    order = np.random.default_rng(seed).permutation(len(jobs))
    return tuple(
        moved(jobs[int(place)], one.arrived) for one, place in zip(jobs, order, strict=True)
    )


def rotated(requests: Sequence[SimRequest], seed: int) -> tuple[SimRequest, ...]:
    """The trace begun at another of its requests and gone round; seed 0: as it is."""
    if seed == 0 or len(requests) < 2:
        return tuple(requests)
    begin = int(np.random.default_rng(seed).integers(len(requests)))
    first, last = requests[0].at, requests[-1].at
    start = requests[begin].at
    turn = last - first + round((last - first) / (len(requests) - 1))
    around = [
        replace(one, at=Micros(one.at - start + (turn if place < begin else 0)))
        for place, one in enumerate(requests)
    ]
    return tuple(around[begin:] + around[:begin])


def _generated(process: str, rest: str, span: float | None) -> Source:
    spec = _spec(rest, more=OF_GENERATED)
    if "hours" in spec.settings:
        span = spec.number("hours") * HOUR
    if span is None:
        raise SpecError(f"--trace {process}: how long is it? add ,hours=24 or --for 24h")
    period = spec.number("period", DAY / HOUR) * HOUR
    rate = spec.number("rate") if "rate" in spec.settings else None
    if spec.path is None:
        arrivals = from_numbers(
            process,
            rate=spec.number("rate"),
            peak=spec.number("peak", 1.8),
            cv=spec.number("cv") if "cv" in spec.settings else None,
            period=period,
        )
        lasting = Lasting(
            prompt=usual_lengths(spec.number("input")), output=usual_lengths(spec.number("output"))
        )
        told = f"{process} requests, {arrivals.rate:g}/s in the mean"
    elif spec.kind in ("gavel", "philly"):
        jobs = _jobs(spec)
        moments = [one.arrived / MICROS_PER_SECOND for one in jobs]
        coming = fitted(process, moments, period=period, rate=rate)
        seconds = fit_lengths([one.steps / fastest(one) for one in jobs])
        return Source(
            told=f"{process} jobs like the {len(jobs)} of {spec.path.name}",
            jobs=True,
            draw=lambda seed: Work(jobs=drawn_jobs(jobs, coming, seconds, span, seed)),
        )
    else:
        requests = _requests(spec)
        moments = [one.at / MICROS_PER_SECOND for one in requests]
        arrivals = fitted(process, moments, period=period, rate=rate)
        prompts = [float(one.prompt_tokens) for one in requests]
        outputs = [float(one.output_tokens) for one in requests]
        lasting = Lasting(
            prompt=fit_lengths(prompts),
            output=fit_lengths(outputs),
            together=score_correlation(prompts, outputs),
        )
        told = f"{process} requests like the {len(requests)} of {spec.path.name}"
    return Source(
        told=told,
        jobs=False,
        draw=lambda seed: Work(requests=drawn_requests(arrivals, lasting, span, seed)),
    )
