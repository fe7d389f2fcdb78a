"""Performance-based: the most predicted tokens per dollar among what keeps every SLO."""

from dataclasses import dataclass

from meted.domain.allocation import (
    DeploymentDemand,
    Harvest,
    JobDemand,
    Plan,
    PredictedServing,
    Snapshot,
)
from meted.domain.units import SECONDS_PER_HOUR
from meted.policy.allocation.common import first_job, harvesting, serving_everywhere
from meted.policy.allocation.scaling import ScalingParameters

LEVELS = (Harvest.NONE, Harvest.GAPS, Harvest.IDLE)
GENTLEST_FIRST = {level: rank for rank, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One way of harvesting: what training would yield and what serving would feel."""

    harvest: Harvest
    training_tokens_per_second: float
    worst_slack: float
    """Smallest of 1 - predicted / limit over all deployments and both latencies; < 0 breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformancePolicy(ScalingParameters):
    """Choose how training harvests by its marginal tokens per dollar, inside the SLO.

    Each level's training yield is its expected free device time by measured tokens per
    device-second; what serving feels is predicted from measured step times. Among the levels whose
    predicted TTFT and TPOT keep `margin` of every SLO free, the one with the most tokens per dollar
    wins. Where none does, the SLO is elastic: the best yield within `elastic` of the best slack,
    because pausing a trainer that is not the cause would only lose tokens. How many replicas it
    wants, `Scaling` says.
    """

    margin: float = 0.1
    elastic: float = 0.02

    def __post_init__(self) -> None:
        _ = self.scaling

    def decide(self, snapshot: Snapshot) -> Plan:
        replicas, memory = serving_everywhere(snapshot, self.scaling)
        job = first_job(snapshot)
        if job is None:
            return Plan(replicas=replicas, jobs=(), memory=memory)
        options = [_option(snapshot, job, level) for level in LEVELS]
        allowed = [option for option in options if option.worst_slack >= self.margin]
        if allowed:
            chosen = max(
                allowed,
                key=lambda option: (
                    option.training_tokens_per_second,
                    -GENTLEST_FIRST[option.harvest],
                ),
            )
        else:
            best = max(option.worst_slack for option in options)
            close = [option for option in options if option.worst_slack >= best - self.elastic]
            chosen = max(close, key=lambda option: option.training_tokens_per_second)
        reason = _reason(snapshot, options, chosen, feasible=bool(allowed))
        return Plan(
            replicas=replicas,
            jobs=(harvesting(snapshot, job, chosen.harvest, reason),),
            memory=memory,
        )


def _option(snapshot: Snapshot, job: JobDemand, level: Harvest) -> _Option:
    busy = min(1.0, sum(demand.utilisation for demand in snapshot.deployments))
    devices = len(snapshot.pool.devices)
    rate = job.tokens_per_device_second or 1.0
    if level is Harvest.NONE:
        free = 0.0
    elif level is Harvest.GAPS:
        free = devices * (1 - busy)
    else:
        free = devices * (1 - busy) + devices * busy * _SPARE_WITHIN_STEPS
    slack = min(
        (_slack(demand, level) for demand in snapshot.deployments),
        default=1.0,
    )
    return _Option(harvest=level, training_tokens_per_second=rate * free, worst_slack=slack)


_SPARE_WITHIN_STEPS = 0.1
"""Share of a device that an engine leaves free even while it steps (waits between its threads). An
assumption, and a cautious one: it only ranks `idle` above `gaps` where both keep the SLO."""


def _slack(demand: DeploymentDemand, level: Harvest) -> float:
    """Room under the SLO at a level, relative; without arrivals there is nobody to hurt."""
    if demand.arrivals_per_second <= 0 and not demand.running and not demand.queued:
        return 1.0
    predicted = _at(demand, level)
    if predicted is None:
        return 1.0
    return min(
        1 - predicted.ttft_p95 / demand.slo.ttft_p95,
        1 - predicted.tpot_p95 / demand.slo.tpot_p95,
    )


def _at(demand: DeploymentDemand, level: Harvest) -> PredictedServing | None:
    return next((one for one in demand.predicted if one.harvest is level), None)


def _reason(snapshot: Snapshot, options: list[_Option], chosen: _Option, *, feasible: bool) -> str:
    dollars = (
        len(snapshot.pool.devices)
        * snapshot.pool.price.nano_usd_per_device_hour
        / 1e9
        / SECONDS_PER_HOUR
    )
    serving = sum(demand.tokens_per_second for demand in snapshot.deployments)
    told = "; ".join(
        f"{option.harvest}: {_per_dollar(serving + option.training_tokens_per_second, dollars)}"
        f", SLO slack {option.worst_slack:.0%}"
        for option in options
    )
    verdict = "most tokens per dollar inside the SLO" if feasible else "no level keeps the SLO"
    return f"{verdict} ({told}); chosen {chosen.harvest}"


def _per_dollar(tokens_per_second: float, dollars_per_second: float) -> str:
    if dollars_per_second <= 0:
        return f"{tokens_per_second:.0f} tokens/s at no price"
    return f"{tokens_per_second / dollars_per_second / 1e6:.1f}M tokens/$"
