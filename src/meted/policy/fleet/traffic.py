"""What a fleet has to serve: classes of requests by period of the day, and a sample to replay."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np

from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros
from meted.predict.batching import Arrival

HOURS_PER_MONTH = 730.0
"""A twelfth of a year."""

LENGTHS = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000)
"""Upper limits of lengths in tokens, by which requests are put in classes."""

SAMPLE = 6_000
"""Arrivals of a made sample: a 99th percentile then rests on sixty requests."""

_LEVELS = 4
_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A class of requests. prompt_tokens, output_tokens: the mean lengths in it, by which its load
    is counted. prompt_limit, output_limit: no request of the class is longer, 0: the mean itself.
    """

    prompt_tokens: float
    output_tokens: float
    arrivals_per_second: float
    prompt_limit: int = 0
    output_limit: int = 0

    @property
    def longest_prompt(self) -> int:
        return self.prompt_limit or round(self.prompt_tokens)

    @property
    def longest_output(self) -> int:
        return self.output_limit or round(self.output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Hours of the day with like traffic. hours_per_month: how long it lasts in all."""

    name: str
    hours_per_month: float
    buckets: tuple[Bucket, ...]

    @property
    def arrivals_per_second(self) -> float:
        return sum(one.arrivals_per_second for one in self.buckets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """All periods list the same classes in the same order. sample: arrivals, in order of time,
    whose lengths and burstiness stand for all periods; a replay stretches their time to a rate.
    """

    periods: tuple[Period, ...]
    sample: tuple[Arrival, ...]

    def __post_init__(self) -> None:
        if not self.periods or not self.periods[0].buckets:
            raise ValueError("traffic has no period or no class of requests, expected one or more")
        shape = [_lengths(one) for one in self.periods[0].buckets]
        for period in self.periods:
            if [_lengths(one) for one in period.buckets] != shape:
                raise ValueError(
                    f"period {period.name!r} has other classes of requests than "
                    f"{self.periods[0].name!r}; list the same ones, with rate 0 where none come"
                )

    @property
    def hours_per_month(self) -> float:
        return sum(one.hours_per_month for one in self.periods)

    def scaled(self, factor: float) -> "Traffic":
        """The same traffic, `factor` times as dense."""
        return Traffic(
            periods=tuple(_scaled(one, factor) for one in self.periods), sample=self.sample
        )

    def tokens_per_month(self) -> float:
        """Prompt and output tokens that are served in a month."""
        return sum(
            bucket.arrivals_per_second
            * (bucket.prompt_tokens + bucket.output_tokens)
            * period.hours_per_month
            * SECONDS_PER_HOUR
            for period in self.periods
            for bucket in period.buckets
        )


def _lengths(one: Bucket) -> tuple[float, float, int, int]:
    return one.prompt_tokens, one.output_tokens, one.prompt_limit, one.output_limit


def _scaled(period: Period, factor: float) -> Period:
    buckets = tuple(
        replace(one, arrivals_per_second=one.arrivals_per_second * factor) for one in period.buckets
    )
    return replace(period, buckets=buckets)


def bucket_of(arrival: Arrival, buckets: Sequence[Bucket]) -> int:
    """The class of an arrival: the first whose limits hold it, the last if none does."""
    for number, one in enumerate(buckets):
        if (
            arrival.prompt_tokens <= one.longest_prompt
            and arrival.output_tokens <= one.longest_output
        ):
            return number
    return len(buckets) - 1


def traffic_from_arrivals(
    arrivals: Sequence[Arrival],
    *,
    arrivals_per_second: float | None = None,
    prompt_limits: Sequence[int] = LENGTHS,
    output_limits: Sequence[int] = (),
) -> Traffic:
    """Traffic of a trace that starts at midnight, or lasts less than a day and stands for all.

    A trace of a day or more is cut into at most four levels of load by hour of the day, and its
    busiest hours are the sample. arrivals_per_second: mean rate to scale it to, None for its own.
    output_limits: none by default, because a router does not know a request's output when it comes.
    Raises ValueError without two arrivals at different moments.
    """
    ordered = sorted(arrivals, key=lambda one: one.at)
    span = (ordered[-1].at - ordered[0].at) / MICROS_PER_SECOND if ordered else 0.0
    if span <= 0:
        raise ValueError(f"{len(ordered)} arrivals span no time, expected a trace with a rate")
    own = (len(ordered) - 1) / span
    factor = 1.0 if arrivals_per_second is None else arrivals_per_second / own
    days = span / (_DAY * SECONDS_PER_HOUR)
    hours = _levels(ordered) if days >= 1 else {"all hours": tuple(range(_DAY))}
    outputs = output_limits or (max(one.output_tokens for one in ordered),)
    keyed: defaultdict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
    sums: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in ordered:
        key = (_limit(one.prompt_tokens, prompt_limits), _limit(one.output_tokens, outputs))
        keyed[_hour(one) if days >= 1 else 0][key] += 1
        for place, value in enumerate((1, one.prompt_tokens, one.output_tokens)):
            sums[key][place] += value
    periods: list[Period] = []
    for name, members in hours.items():
        counted = sum((keyed[hour] for hour in members), Counter[tuple[int, int]]())
        seconds = days * SECONDS_PER_HOUR * len(members) if days >= 1 else span
        periods.append(
            Period(
                name=name,
                hours_per_month=HOURS_PER_MONTH * len(members) / _DAY,
                buckets=tuple(
                    Bucket(
                        prompt_tokens=prompt / count,
                        output_tokens=output / count,
                        arrivals_per_second=factor * counted[key] / seconds,
                        prompt_limit=key[0],
                        output_limit=key[1],
                    )
                    for key, (count, prompt, output) in sorted(sums.items())
                ),
            )
        )
    sample = ordered
    if days >= 1:
        busiest = max(periods, key=lambda one: one.arrivals_per_second)
        sample = _only(ordered, hours[busiest.name])
    rate = max(one.arrivals_per_second for one in periods)
    return Traffic(periods=tuple(periods), sample=stretched(sample, rate))


def _hour(one: Arrival) -> int:
    return one.at // (SECONDS_PER_HOUR * MICROS_PER_SECOND) % _DAY


def _only(arrivals: Sequence[Arrival], hours: Sequence[int]) -> list[Arrival]:
    """The arrivals in these hours of the day, one hour after the other without the time between:
    otherwise night and day would be replayed as one long burst."""
    hour = SECONDS_PER_HOUR * MICROS_PER_SECOND
    kept = [one for one in arrivals if _hour(one) in hours]
    order = {which: turn for turn, which in enumerate(sorted({one.at // hour for one in kept}))}
    return [replace(one, at=Micros(order[one.at // hour] * hour + one.at % hour)) for one in kept]


def _limit(tokens: int, limits: Sequence[int]) -> int:
    return next((one for one in limits if tokens <= one), max(tokens, limits[-1]))


def _levels(arrivals: Sequence[Arrival]) -> dict[str, tuple[int, ...]]:
    """Hours of the day in at most four groups, cut where the sorted hourly loads differ most."""
    counts = Counter(_hour(one) for one in arrivals)
    ranked = sorted(range(_DAY), key=lambda hour: (counts[hour], hour))
    gaps = [(counts[above] - counts[below], place + 1) for place, (below, above) in
            enumerate(pairwise(ranked))]  # fmt: skip
    cuts = sorted(place for gap, place in sorted(gaps, reverse=True)[: _LEVELS - 1] if gap > 0)
    bounds = [0, *cuts, _DAY]
    groups = (tuple(sorted(ranked[start:end])) for start, end in pairwise(bounds))
    return {"hours " + ",".join(map(str, group)): group for group in groups}


def steady_traffic(
    *, arrivals_per_second: float, prompt_tokens: float, output_tokens: float, seed: int
) -> Traffic:
    """Poisson arrivals at one rate with log-normal lengths around the means.

    The spread of the lengths (a deviation of 0.7 of the logarithm) is a guess where no trace is
    known: public chat traces lie between 0.5 and 1.2.
    """
    if not (arrivals_per_second > 0 and prompt_tokens >= 1 and output_tokens >= 1):
        raise ValueError(
            f"traffic is {arrivals_per_second}/s with {prompt_tokens} + {output_tokens} tokens, "
            "expected a rate above 0 and lengths of 1 or more"
        )
    draw = np.random.default_rng(seed)
    moments = np.cumsum(draw.exponential(MICROS_PER_SECOND / arrivals_per_second, SAMPLE))
    prompts, outputs = (
        np.maximum(1, np.rint(mean * np.exp(draw.normal(-0.245, 0.7, SAMPLE)))).astype(int)
        for mean in (prompt_tokens, output_tokens)
    )
    sample = [
        Arrival(at=Micros(int(at)), prompt_tokens=int(prompt), output_tokens=int(output))
        for at, prompt, output in zip(moments, prompts, outputs, strict=True)
    ]
    return traffic_from_arrivals(sample, arrivals_per_second=arrivals_per_second)


def poisson_sample(
    arrivals: Sequence[Arrival], *, arrivals_per_second: float, count: int, seed: int
) -> tuple[Arrival, ...]:
    """Lengths drawn from a trace, at Poisson moments of a rate."""
    draw = np.random.default_rng(seed)
    moments = np.cumsum(draw.exponential(MICROS_PER_SECOND / arrivals_per_second, count))
    chosen = draw.integers(len(arrivals), size=count)
    return tuple(
        replace(arrivals[int(place)], at=Micros(int(at)))
        for place, at in zip(chosen, moments, strict=True)
    )


def stretched(arrivals: Sequence[Arrival], arrivals_per_second: float) -> tuple[Arrival, ...]:
    """The arrivals from moment 0, their time scaled so that their mean rate is the one wished."""
    if len(arrivals) < 2 or arrivals_per_second <= 0:
        return tuple(replace(one, at=Micros(0)) for one in arrivals)
    first = arrivals[0].at
    own = (len(arrivals) - 1) * MICROS_PER_SECOND / max(1, arrivals[-1].at - first)
    factor = own / arrivals_per_second
    return tuple(replace(one, at=Micros(round((one.at - first) * factor))) for one in arrivals)


def lengthened(arrivals: Sequence[Arrival], count: int) -> tuple[Arrival, ...]:
    """The arrivals, over and over again after each other, until there are `count`."""
    if len(arrivals) < 2:
        return tuple(arrivals)
    gap = (arrivals[-1].at - arrivals[0].at) / (len(arrivals) - 1)
    span = round(arrivals[-1].at - arrivals[0].at + gap)
    rounds = -(-count // len(arrivals))
    again = (
        replace(one, at=Micros(one.at + turn * span)) for turn in range(rounds) for one in arrivals
    )
    return tuple(islice(again, max(count, len(arrivals))))
