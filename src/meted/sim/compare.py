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
    """A measure, for each policy; None where no run of it has one."""

    measure: Measure
    by_policy: Mapping[str, Interval | None]


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
        found = {policy: _over(measure, runs, limits) for policy, runs in results.items()}
        if any(one is not None for one in found.values()):
            rows.append(Row(measure=measure, by_policy=found))
    return Comparison(policies=tuple(results), rows=tuple(rows), seeds=counts.pop())


def _over(measure: Measure, runs: Sequence[Result], limits: Limits) -> Interval | None:
    values = [measure.of(run, limits) for run in runs]
    known = [value for value in values if value is not None]
    return interval(known) if known else None


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
