"""What a simulation is judged by: times of jobs, latencies of requests, dollars, use of devices."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from meted.domain.deployment import SLO
from meted.domain.units import MICROS_PER_SECOND, NANOS_PER_SECOND, SECONDS_PER_HOUR, DeploymentName
from meted.predict.batching import Served
from meted.sim.result import JobResult, Result, Use

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
WORKING = frozenset({Use.SERVING, Use.TRAINING})
"""Uses that bring a request or a step on."""
BUSY = WORKING | {Use.LOADING, Use.RESTARTING, Use.LOST}
"""Uses of a device that somebody has work for, what was lost of it included."""


class Unit(StrEnum):
    """What a measure's number counts."""

    HOURS = "h"
    MILLISECONDS = "ms"
    USD = "$"
    SHARE = "%"
    COUNT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """slos: what deployments owe; without an entry none is counted as missed or met."""

    slos: Mapping[DeploymentName, SLO] = field(default_factory=dict[DeploymentName, SLO])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """name: as a key. title: for people. of: its number for a result, None if it has none.
    less: a smaller number is better; None: neither is."""

    name: str
    title: str
    unit: Unit
    of: Callable[[Result, Limits], float | None]
    less: bool | None = True


def jcts(result: Result) -> list[float]:
    """Hours from each job's arrival to its end; of one that did not end, to the end of the
    simulation, which is less than the truth."""
    return [
        ((result.ended if job.finished is None else job.finished) - job.arrived) / HOUR
        for job in result.jobs
    ]


def waits(result: Result) -> list[float]:
    """Hours from each job's arrival to its first start, or to the simulation's end."""
    return [
        ((result.ended if job.started is None else job.started) - job.arrived) / HOUR
        for job in result.jobs
    ]


def ttfts(result: Result) -> list[float]:
    """Milliseconds from each answered request's arrival to its first token."""
    return [(one.first_token - one.arrival.at) / 1_000 for one in _answered(result)]


def tpots(result: Result) -> list[float]:
    """Milliseconds a token of each answer with more than one."""
    return [
        (one.last_token - one.first_token) / 1_000 / (one.arrival.output_tokens - 1)
        for one in _answered(result)
        if one.arrival.output_tokens > 1
    ]


def attainment(result: Result, limits: Limits) -> float | None:
    """Share of all requests that were answered inside TTFT and TPOT of their SLO; refused and
    unfinished ones missed it. Those that a budget had no money for are not owed anything."""
    inside = whole = 0
    for one in result.deployments:
        slo = limits.slos.get(one.deployment)
        if slo is None:
            continue
        whole += len(one.served) + one.refused + one.unfinished
        inside += sum(_inside(served, slo) for served in one.served)
    return inside / whole if whole else None


def _inside(served: Served, slo: SLO) -> bool:
    decoded = max(1, served.arrival.output_tokens - 1)
    return (
        served.first_token - served.arrival.at <= slo.ttft_p95
        and (served.last_token - served.first_token) / decoded <= slo.tpot_p95
    )


def dollars(result: Result, uses: Iterable[Use] = tuple(Use)) -> float:
    """USD of device time in these uses."""
    wanted = frozenset(uses)
    return sum(one.cost for one in result.segments if one.use in wanted) / NANOS_PER_SECOND


def utilisation(result: Result) -> float | None:
    """Share of device time, without that of vanished devices, that served or trained."""
    whole = working = 0
    for one in result.segments:
        if one.use is not Use.GONE:
            whole += one.ends - one.begins
            working += one.ends - one.begins if one.use in WORKING else 0
    return working / whole if whole else None


def makespan(result: Result) -> float | None:
    """Hours from moment 0 to the last job's end; None while one has not ended."""
    if not result.jobs or any(job.finished is None for job in result.jobs):
        return None
    return max(job.finished or 0 for job in result.jobs) / HOUR


def _answered(result: Result) -> Iterable[Served]:
    return (served for one in result.deployments for served in one.served)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _quantile(values: list[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def _jobs(count: Callable[[JobResult], float]) -> Callable[[Result, Limits], float | None]:
    return lambda result, _: sum(map(count, result.jobs)) if result.jobs else None


def _requests(result: Result, counted: Callable[[Result], int]) -> float | None:
    return counted(result) if result.deployments else None


def _budgets(result: Result, counted: Callable[[Result], float]) -> float | None:
    return counted(result) if result.budgets else None


def _spread(
    name: str, title: str, unit: Unit, values: Callable[[Result], list[float]], *, mean: bool
) -> list[Measure]:
    """Mean and quantiles of what jobs or requests feel."""
    made = [Measure(name=f"{name}_mean", title=f"{title}, mean", unit=unit,
                    of=lambda result, _: _mean(values(result)))] if mean else []  # fmt: skip
    return made + [
        Measure(
            name=f"{name}_p{share}",
            title=f"{title}, p{share}",
            unit=unit,
            of=lambda result, _, share=share: _quantile(values(result), share / 100),
        )
        for share in (50, 95, 99)
    ]


def _money(name: str, title: str, uses: Iterable[Use], less: bool | None) -> Measure:
    wanted = frozenset(uses)
    return Measure(
        name=name, title=title, unit=Unit.USD, of=lambda result, _: dollars(result, wanted),
        less=less,
    )  # fmt: skip


MEASURES: tuple[Measure, ...] = (
    *_spread("jct", "JCT", Unit.HOURS, jcts, mean=True),
    *_spread("wait", "job's wait", Unit.HOURS, waits, mean=True),
    Measure(name="makespan", title="makespan", unit=Unit.HOURS, of=lambda one, _: makespan(one)),
    Measure(name="misses", title="deadlines missed", unit=Unit.COUNT,
            of=lambda one, _: sum(job.missed for job in one.jobs)
            if any(job.deadline is not None for job in one.jobs) else None),
    Measure(name="unfinished", title="jobs not finished", unit=Unit.COUNT,
            of=_jobs(lambda job: job.finished is None)),
    Measure(name="restarts", title="restarts of jobs", unit=Unit.COUNT,
            of=_jobs(lambda job: job.restarts)),
    Measure(name="attainment", title="requests inside SLO", unit=Unit.SHARE, of=attainment,
            less=False),
    *_spread("ttft", "TTFT", Unit.MILLISECONDS, ttfts, mean=False),
    *_spread("tpot", "TPOT", Unit.MILLISECONDS, tpots, mean=False),
    Measure(name="refused", title="requests refused", unit=Unit.COUNT,
            of=lambda one, _: _requests(one, lambda r: sum(d.refused for d in r.deployments))),
    Measure(name="unfunded", title="requests refused, no money", unit=Unit.COUNT,
            of=lambda one, _: _budgets(one, lambda r: sum(d.unfunded for d in r.deployments))),
    Measure(name="budgets_spent", title="budgets spent", unit=Unit.USD, less=None,
            of=lambda one, _: _budgets(one, lambda r: sum(b.spent for b in r.budgets) / 1e9)),
    Measure(name="unanswered", title="requests not answered", unit=Unit.COUNT,
            of=lambda one, _: _requests(one, lambda r: sum(d.unfinished for d in r.deployments))),
    _money("usd", "cost", Use, less=True),
    _money("usd_busy", "of it busy", BUSY, less=None),
    _money("usd_ready", "of it ready, no request", (Use.READY,), less=None),
    _money("usd_idle", "of it idle", (Use.IDLE,), less=None),
    _money("usd_parked", "of it parked", (Use.PARKED,), less=None),
    Measure(name="utilisation", title="time serving or training", unit=Unit.SHARE,
            of=lambda one, _: utilisation(one), less=False),
)  # fmt: skip
