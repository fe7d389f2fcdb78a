"""The simulator against queueing theory: M/M/1, M/M/c, M/D/1, Little's law, through `simulate`."""

import math

import numpy as np
import pytest
from serving_scenarios import Counts, make_serving, poisson, replica, request

from meted.sim.compare import interval
from meted.sim.result import Use
from meted.sim.world import simulate

TOKENS = 1000
STEP_US = 1_000.0
"""A token a millisecond, so that a request of mean length takes a second."""
RUNS = 6
SKIPPED = 500
"""Requests of a run that come before its queue has settled."""


def erlang_c(servers: int, load: float) -> float:
    """Probability that one waits in M/M/c; load: rate times mean service time (Erlang 1917)."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def waits(servers: int, rate: float, seed: int, count: int) -> np.ndarray:
    """Seconds between arrival and start, in the order of arrival."""
    result = simulate(
        make_serving(
            poisson(count, rate=rate, mean_tokens=TOKENS, seed=seed),
            policy=Counts(by_second=(servers,)),
            model=replica(fixed=STEP_US),
            devices=servers,
            interval=60_000_000,
        )
    )
    (one,) = result.deployments
    assert len(one.served) == count
    return np.array([each.started - each.arrival.at for each in one.served]) / 1e6


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (6, 5.1)])
def test_mean_wait_is_that_of_mmc(servers: int, load: float) -> None:
    # A length is rounded up, half a token longer on average.
    service = (TOKENS + 0.5) * STEP_US / 1e6
    rate = load / service
    means = [float(waits(servers, rate, seed, 2_000)[SKIPPED:].mean()) for seed in range(RUNS)]
    found = interval(means, level=0.999)
    expected = erlang_c(servers, load) * service / (servers - load)
    assert found.low is not None and found.high is not None
    assert found.low < expected < found.high
    assert found.reach is not None and found.reach < expected


def test_share_that_waits_is_erlang_c() -> None:
    servers, load = 4, 3.0
    waited = [
        float((waits(servers, load, seed, 2_000)[SKIPPED:] > 0).mean()) for seed in range(RUNS)
    ]
    found = interval(waited, level=0.999)
    assert found.low is not None and found.high is not None
    assert found.low < erlang_c(servers, load) < found.high


def test_mean_wait_is_that_of_md1() -> None:
    means: list[float] = []
    for seed in range(RUNS):
        random = np.random.default_rng(seed)
        at = 10 + np.cumsum(random.exponential(1 / 0.7, 2_000))
        result = simulate(
            make_serving(
                [request(when, output=TOKENS) for when in at],
                policy=Counts(by_second=(1,)),
                model=replica(fixed=STEP_US),
                devices=1,
                interval=60_000_000,
            )
        )
        (one,) = result.deployments
        felt = [(each.started - each.arrival.at) / 1e6 for each in one.served[SKIPPED:]]
        means.append(float(np.mean(felt)))
    found = interval(means, level=0.999)
    expected = 0.7 / (2 * (1 - 0.7))
    assert found.low is not None and found.high is not None
    assert found.low < expected < found.high


def test_requests_seen_at_decisions_are_rate_times_stay() -> None:
    """Little 1961: the mean number inside, as policies see it, is rate times mean stay."""
    inside: list[float] = []
    for seed in range(RUNS):
        policy = Counts(by_second=(3,))
        result = simulate(
            make_serving(
                poisson(2_000, rate=2.4, mean_tokens=TOKENS, seed=seed, begin=0.0),
                policy=policy,
                model=replica(fixed=STEP_US),
                devices=3,
                load=0,
                interval=3_000_000,
            )
        )
        (one,) = result.deployments
        stays = sum(each.last_token - each.arrival.at for each in one.served) / 1e6
        seen = np.array([each.queued + each.running for each in policy.seen])
        inside.append(float(seen.mean()) / (stays / (result.ended / 1e6)))
    found = interval(inside, level=0.999)
    assert found.low is not None and found.high is not None
    assert found.low < 1 < found.high
    assert found.reach is not None and found.reach < 0.1


def test_replicas_serve_exactly_as_long_as_their_requests_take() -> None:
    result = simulate(
        make_serving(
            poisson(500, rate=2.0, mean_tokens=TOKENS, seed=5),
            policy=Counts(by_second=(3,)),
            devices=3,
        )
    )
    (one,) = result.deployments
    served = sum(each.last_token - each.started for each in one.served)
    serving = sum(each.ends - each.begins for each in result.segments if each.use is Use.SERVING)
    assert serving == served
