"""How the candidates of a search stand, given all that was told."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from meted.optimise.belief import Belief, Candidate, Sample, Trust, believed
from meted.optimise.quantiles import normal_below, normal_quantile
from meted.optimise.search_values import Measured
from meted.optimise.slo_evidence import SloEvidence, SloLimits, SloSample, slo_evidence

BROKEN = 0.01
"""A candidate that keeps the SLO with less probability is out."""
Z90 = normal_quantile(0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """out: candidates that cannot be used, each with its reason. effort: spent on each."""

    candidates: tuple[Candidate, ...]
    belief: Belief
    slo: Mapping[str, SloEvidence]
    out: Mapping[str, str]
    effort: Mapping[str, float]

    @classmethod
    def of(
        cls,
        candidates: tuple[Candidate, ...],
        told: Sequence[Measured],
        *,
        limits: SloLimits,
        trust: Trust,
    ) -> Self:
        samples: dict[str, list[Sample]] = {one.key: [] for one in candidates}
        latencies: dict[str, list[SloSample]] = {one.key: [] for one in candidates}
        effort = dict.fromkeys(samples, 0.0)
        out = {one.key: one.infeasible for one in candidates if one.infeasible is not None}
        for one in told:
            effort[one.key] += one.effort
            if one.refused is not None:
                out[one.key] = one.refused
            if one.cost is not None:
                samples[one.key].append(Sample(log_cost=math.log(one.cost), effort=one.effort))
            latencies[one.key].append(
                SloSample(effort=one.effort, ttft_p95_s=one.ttft_p95_s, tpot_p95_s=one.tpot_p95_s)
            )
        slo = {key: slo_evidence(limits, mine) for key, mine in latencies.items()}
        for key, evidence in slo.items():
            if evidence.probability < BROKEN:
                out.setdefault(key, evidence.reason)
        return cls(
            candidates=candidates,
            belief=believed(candidates, samples, trust),
            slo=slo,
            out=out,
            effort=effort,
        )

    def live(self) -> list[str]:
        """Candidates that may still be used, the one that seems cheapest first."""
        keys = [one.key for one in self.candidates if one.key not in self.out]
        return sorted(keys, key=lambda key: (self.belief.log_cost(key)[0], key))

    def best(self) -> str | None:
        """The cheapest measured candidate that more likely keeps the SLO than not."""
        good = (k for k in self.live() if self.effort[k] and self.slo[k].probability >= 0.5)
        return next(good, None)

    def threats(self, best: str, close: float) -> Iterator[tuple[float, str]]:
        """Every other live candidate, with the probability that it keeps the SLO and is cheaper
        than best by more than `close`."""
        for key in self.live():
            if key != best:
                mean, deviation = self.belief.excess(key, best)
                cheaper = normal_below((-math.log1p(close) - mean) / max(deviation, 1e-12))
                yield cheaper * self.slo[key].probability, key

    def sure(self, best: str, close: float) -> float:
        """Lower bound (Boole's) of the probability that best is within `close` of the cheapest."""
        missed = sum(probability for probability, _ in self.threats(best, close))
        return max(0.0, self.slo[best].probability - missed)

    def dearer(self, key: str, best: str) -> str:
        """How much dearer a candidate is than best, in words, with the 90 % interval."""
        mean, deviation = self.belief.excess(key, best)
        low, middle, high = (
            round(100 * math.expm1(mean + z * deviation)) for z in (-Z90, 0.0, Z90)
        )
        return f"{middle} % dearer ({low} to {high}) than {best}"
