"""Traffic keeps the rate, the lengths and the hours of the trace it is made from."""

from itertools import pairwise

import pytest

from meted.domain.units import Micros
from meted.policy.fleet.traffic import (
    HOURS_PER_MONTH,
    Bucket,
    bucket_of,
    lengthened,
    poisson_sample,
    steady_traffic,
    stretched,
    traffic_from_arrivals,
)
from meted.predict.batching import Arrival

HOUR = 3_600_000_000


def arrival(at: int, prompt: int = 100, output: int = 10) -> Arrival:
    return Arrival(at=Micros(at), prompt_tokens=prompt, output_tokens=output)


def test_classes_together_have_the_rate_and_the_mean_lengths_of_the_trace() -> None:
    trace = [arrival(n * 500_000, prompt=50 + 37 * n % 900, output=1 + n % 7) for n in range(401)]
    traffic = traffic_from_arrivals(trace, arrivals_per_second=8.0)
    (period,) = traffic.periods
    assert period.arrivals_per_second == pytest.approx(8.0, rel=0.01)
    prompts = sum(one.arrivals_per_second * one.prompt_tokens for one in period.buckets)
    expected = sum(one.prompt_tokens for one in trace) / len(trace)
    assert prompts / period.arrivals_per_second == pytest.approx(expected)


def test_a_longer_trace_is_cut_by_hour_of_the_day() -> None:
    busy = [arrival(day * 24 * HOUR + 9 * HOUR + n * 3_600_000) for day in range(2)
            for n in range(900)]  # fmt: skip
    quiet = [arrival(hour * HOUR) for hour in range(49)]
    traffic = traffic_from_arrivals([*busy, *quiet])
    rates = {one.name: one.arrivals_per_second for one in traffic.periods}
    assert 2 <= len(traffic.periods) <= 4
    assert rates["hours 9"] > 100 * min(rates.values())
    assert traffic.hours_per_month == pytest.approx(HOURS_PER_MONTH)


def test_no_request_of_a_class_is_longer_than_its_limit() -> None:
    trace = [arrival(n * 1000, prompt=1 + 53 * n % 5000) for n in range(500)]
    buckets = traffic_from_arrivals(trace).periods[0].buckets
    for one in trace:
        assert one.prompt_tokens <= buckets[bucket_of(one, buckets)].longest_prompt


def test_stretching_sets_the_rate_and_keeps_the_lengths() -> None:
    trace = poisson_sample(
        [arrival(0, prompt=n) for n in range(1, 50)], arrivals_per_second=3.0, count=500, seed=1
    )
    faster = stretched(trace, 12.0)
    assert (len(faster) - 1) * 1e6 / faster[-1].at == pytest.approx(12.0, rel=1e-3)
    assert [one.prompt_tokens for one in faster] == [one.prompt_tokens for one in trace]


def test_a_lengthened_sample_keeps_its_rate_and_order() -> None:
    trace = stretched([arrival(n * 1000 + n % 3) for n in range(100)], 5.0)
    longer = lengthened(trace, 450)
    assert len(longer) == 450
    assert all(a.at <= b.at for a, b in pairwise(longer))
    assert 450e6 / longer[-1].at == pytest.approx(5.0, rel=0.05)


def test_equal_seeds_give_equal_traffic_and_others_do_not() -> None:
    def made(seed: int) -> object:
        return steady_traffic(
            arrivals_per_second=2.0, prompt_tokens=800, output_tokens=100, seed=seed
        )

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_made_lengths_have_the_means_asked_for() -> None:
    traffic = steady_traffic(arrivals_per_second=2.0, prompt_tokens=800, output_tokens=100, seed=3)
    mean = sum(one.prompt_tokens for one in traffic.sample) / len(traffic.sample)
    assert mean == pytest.approx(800, rel=0.05)


def test_periods_with_unlike_classes_are_refused() -> None:
    traffic = traffic_from_arrivals([arrival(0), arrival(1_000_000)])
    other = Bucket(prompt_tokens=7, output_tokens=7, arrivals_per_second=1.0)
    period = traffic.periods[0]
    odd = type(period)(name="odd", hours_per_month=1.0, buckets=(other,))
    with pytest.raises(ValueError, match="other classes"):
        type(traffic)(periods=(period, odd), sample=())


def test_a_trace_without_time_has_no_rate() -> None:
    with pytest.raises(ValueError, match="span no time"):
        traffic_from_arrivals([arrival(5)])
