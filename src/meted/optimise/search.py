"""The cheapest configuration that keeps the SLO, found by measuring few of many, and little.

Ask and tell: `ask` says which candidate to measure and how long, `tell` takes what was measured.
What is believed of every candidate's cost is the predictor's prior, errors that candidates with a
common trait share, and measurements weighted by their precision. The best and its likeliest rival
are measured against each other, whichever has had less, each time as long as before (as in LUCB,
Kalyanakrishnan et al. 2012); what cannot well be the cheapest is never started. Equal evidence
gives equal questions.
"""

import math
from dataclasses import dataclass, replace

from meted.domain.units import NanoUSD
from meted.optimise.belief import Candidate, Trust
from meted.optimise.search_values import Answer, Ask, Budget, Feasible, Measured, Rejected
from meted.optimise.slo_evidence import SloLimits
from meted.optimise.standing import Z90, Standing
from meted.predict.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """close: how much dearer than the cheapest is good enough, as a share. sure: the probability of
    that at which to stop. first: effort of a candidate's first measurement, not too short against
    the loading that comes before each."""

    close: float = 0.03
    sure: float = 0.97
    first: float = 1 / 8
    trust: Trust = Trust()

    def __post_init__(self) -> None:
        if not 0 < self.first <= 1:
            raise ValueError(f"the first measurement is {self.first}, expected 0 < first <= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search is its evidence: what to ask next follows from what was told."""

    candidates: tuple[Candidate, ...]
    budget: Budget
    limits: SloLimits = SloLimits()
    rules: Rules = Rules()
    told: tuple[Measured, ...] = ()

    def __post_init__(self) -> None:
        if len({one.key for one in self.candidates}) != len(self.candidates):
            raise ValueError("two candidates have one key, expected each configuration once")

    def ask(self) -> Ask | None:
        """What to measure next; None when the search is over, and `answer` says why."""
        standing = self._standing()
        return None if self._stopped(standing) else self._wanted(standing)

    def tell(self, measured: Measured) -> "Search":
        """Raises ValueError for a key that is no candidate."""
        if all(one.key != measured.key for one in self.candidates):
            raise ValueError(f"{measured.key!r} is no candidate of this search")
        return replace(self, told=(*self.told, measured))

    def answer(self) -> Answer:
        standing = self._standing()
        best = standing.best()
        feasible = [
            key
            for key in standing.live()
            if standing.effort[key] and standing.slo[key].probability >= 0.5
        ]
        return Answer(
            best=best,
            sure=standing.sure(best, self.rules.close) if best else 0.0,
            feasible=tuple(
                Feasible(key=key, cost=_dollars(*standing.belief.log_cost(key))) for key in feasible
            ),
            rejected=tuple(
                Rejected(key=one.key, reason=self._why_not(standing, one.key, best))
                for one in self.candidates
                if one.key != best
            ),
            effort=self._effort(),
            dollars=self._dollars(),
            stopped=self._stopped(standing),
        )

    def _standing(self) -> Standing:
        return Standing.of(self.candidates, self.told, limits=self.limits, trust=self.rules.trust)

    def _effort(self) -> float:
        return math.fsum(one.effort for one in self.told)

    def _dollars(self) -> NanoUSD:
        return NanoUSD(sum(one.spent for one in self.told))

    def _wanted(self, standing: Standing) -> Ask:
        """The measurement that is likeliest to change the answer."""
        best = standing.best()
        if best is None:
            # Nothing is measured, or all that is rather misses the SLO: the cheapest of those that
            # miss it least.
            key = max(standing.live(), key=lambda one: standing.slo[one].probability)
            return self._asking(standing, key, "nothing keeps the SLO so far")
        chance, rival = max(standing.threats(best, self.rules.close), default=(0.0, best))
        if 1 - standing.slo[best].probability >= chance:
            return self._asking(standing, best, f"the SLO of {best}")
        key = min((best, rival), key=lambda one: (standing.effort[one], one))
        return self._asking(standing, key, f"{best} against {rival}")

    def _asking(self, standing: Standing, key: str, reason: str) -> Ask:
        """As much again as the candidate has had, and no more than is left."""
        effort = min(1.0, max(standing.effort[key], self.rules.first))
        left = self.budget.effort - self._effort()
        return Ask(key=key, effort=min(effort, left), reason=reason)

    def _stopped(self, standing: Standing) -> str:
        """Why the search is over, empty while it goes on."""
        if not standing.live():
            return "no candidate is left"
        best = standing.best()
        sure = standing.sure(best, self.rules.close) if best else 0.0
        if sure >= self.rules.sure:
            return f"{best} is within {self.rules.close:.0%} of the cheapest with {sure:.1%}"
        if self.budget.effort - self._effort() < self.rules.first / 2:
            return f"{self._effort():.3g} of {self.budget.effort:.3g} measurements are spent"
        return self._dollars_gone(standing)

    def _dollars_gone(self, standing: Standing) -> str:
        limit, spent = self.budget.dollars, self._dollars()
        if limit is None:
            return ""
        wanted = self._wanted(standing)
        # What the next one costs is known from those before.
        rate = spent / self._effort() if self.told else 0.0
        if spent < limit and spent + rate * wanted.effort <= limit:
            return ""
        return f"${spent / 1e9:.4g} of ${limit / 1e9:.4g} is spent"

    def _why_not(self, standing: Standing, key: str, best: str | None) -> str:
        if key in standing.out:
            return standing.out[key]
        if best is None:
            return "not measured" if not standing.effort[key] else standing.slo[key].reason
        if standing.slo[key].probability < 0.5:
            return f"more likely out than not: {standing.slo[key].reason}"
        mean, deviation = standing.belief.excess(key, best)
        words = standing.dearer(key, best)
        if mean - Z90 * deviation > 0:
            return f"dominated: {words}"
        if not standing.effort[key]:
            return f"not measured, believed {words}"
        return f"set aside: {words}"


def _dollars(mean: float, deviation: float) -> Estimate:
    return Estimate(
        low=math.exp(mean - Z90 * deviation),
        expected=math.exp(mean),
        high=math.exp(mean + Z90 * deviation),
    )
