"""Whether a candidate keeps the SLO, as far as short measurements can say."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meted.optimise.quantiles import normal_below


@dataclass(frozen=True, slots=True, kw_only=True)
class SloLimits:
    """Most seconds at the 95th percentile; None where nothing is asked.

    noise: deviation of the log of a measured percentile at full effort.
    """

    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    noise: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SloSample:
    effort: float
    ttft_p95_s: float | None
    tpot_p95_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SloEvidence:
    """probability: that every limit is kept, 1 where none was measured. reason: the worst metric
    against its limit, empty where none was measured."""

    probability: float
    reason: str


def slo_evidence(limits: SloLimits, samples: Sequence[SloSample]) -> SloEvidence:
    """Percentiles are averaged as logarithms, weighted by effort."""
    worst = SloEvidence(probability=1.0, reason="")
    for name, limit, pairs in _metrics(limits, samples):
        effort = sum(weight for weight, _ in pairs)
        if not effort:
            continue
        level = sum(weight * math.log(value) for weight, value in pairs) / effort
        probability = normal_below((math.log(limit) - level) * math.sqrt(effort) / limits.noise)
        if probability <= worst.probability:
            sign = ">" if math.exp(level) > limit else "<="
            worst = SloEvidence(
                probability=probability,
                reason=f"{name} p95 {_seconds(math.exp(level))} {sign} {_seconds(limit)}",
            )
    return worst


Metric = tuple[str, float, list[tuple[float, float]]]


def _metrics(limits: SloLimits, samples: Sequence[SloSample]) -> Iterator[Metric]:
    """Each limit with the measurements (effort, seconds) that speak of it."""
    if limits.ttft_p95_s is not None:
        values = [(one.effort, one.ttft_p95_s) for one in samples]
        yield "TTFT", limits.ttft_p95_s, [(w, max(v, 1e-9)) for w, v in values if v is not None]
    if limits.tpot_p95_s is not None:
        values = [(one.effort, one.tpot_p95_s) for one in samples]
        yield "TPOT", limits.tpot_p95_s, [(w, max(v, 1e-9)) for w, v in values if v is not None]


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
