"""Several results of each policy, one a seed: a table of means with confidence intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from meted.sim.measures import MEASURES, Limits, Measure
from meted.sim.result import Result

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over `runs` seeds. low, high: its confidence interval; None with one run, which says
    nothing of the spread."""

    mean: float
    low: float | None
    high: float | None
    runs: int

    @property
    def reach(self) -> float | None:
        """Half the interval's width."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measure, for each policy; None where no run of it has one.

    best: policies with the best mean, and those whose difference from it, paired by seed, may be
    zero; none where no direction is better or all are equal.
    """

    measure: Measure
    by_policy: Mapping[str, Interval | None]
    best: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """policies: in the order given. rows: measures that some run has. seeds: runs of a policy."""

    policies: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: int

    def of(self, measure: str, policy: str) -> Interval | None:
        """The interval of a measure by its name. Raises KeyError for one that is not there."""
        for row in self.rows:
            if row.measure.name == measure:
                return row.by_policy[policy]
        raise KeyError(measure)


def compare(results: Mapping[str, Sequence[Result]], limits: Limits = Limits()) -> Comparison:
    """The table of the runs of each policy.

    Raises ValueError if policies have unequal numbers of runs, or none.
    """
    counts = {len(runs) for runs in results.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"the policies have {sorted(counts)} runs, expected one number of 1 or more for all; "
            "simulate each with the same seeds"
        )
    rows: list[Row] = []
    for measure in MEASURES:
        values = {
            policy: [measure.of(run, limits) for run in runs] for policy, runs in results.items()
        }
        found = {policy: _over(some) for policy, some in values.items()}
        if any(one is not None for one in found.values()):
            rows.append(Row(measure=measure, by_policy=found, best=_best(measure, values)))
    return Comparison(policies=tuple(results), rows=tuple(rows), seeds=counts.pop())


def _over(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return interval(known) if known else None


def _best(measure: Measure, values: Mapping[str, Sequence[float | None]]) -> frozenset[str]:
    """Policies that no other is known to beat. Equal seeds bring equal work, so differences are
    taken seed by seed, which leaves out how much harder one seed is than another."""
    known = {
        policy: [value for value in some if value is not None] for policy, some in values.items()
    }
    whole = {policy: some for policy, some in known.items() if len(some) == len(values[policy])}
    means = {policy: math.fsum(some) / len(some) for policy, some in whole.items()}
    if measure.less is None or len(set(means.values())) < 2:
        return frozenset()
    leader = (min if measure.less else max)(means, key=lambda policy: means[policy])

    def ties(policy: str) -> bool:
        gaps = [one - other for one, other in zip(whole[policy], whole[leader], strict=True)]
        found = interval(gaps)
        if found.low is None or found.high is None:
            return found.mean == 0
        return found.low <= 0 <= found.high

    return frozenset(policy for policy in whole if ties(policy))


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent values and its interval by Student's t: mean +- t * s / sqrt(n).

    Raises ValueError without a value.
    """
    count = len(values)
    if not count:
        raise ValueError("there is no value, expected one or more; run one seed at least")
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean=mean, low=None, high=None, runs=1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    reach = float(stdtrit(count - 1, (1 + level) / 2)) * spread / math.sqrt(count)
    return Interval(mean=mean, low=mean - reach, high=mean + reach, runs=count)
