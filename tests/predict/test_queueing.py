"""Closed forms against each other, against textbook values, and against the replay."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.queueing import (
    Stream,
    UnstableError,
    balance,
    erlang_c,
    kingman_wait,
    mg1_wait,
    mmc_wait,
    mmc_wait_quantile,
    simulate_quantiles,
)
from meted.predict.replay import latencies, replay, replay_fleet
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost

PER_TOKEN = StepCost(fixed=0.0, prefill=0.0, decode=1_000.0, context=0.0)
"""Serving costs a millisecond a token and nothing else: with a batch of one, a plain queue."""


def one_by_one(tokens_micros: StepCost = PER_TOKEN) -> ReplicaModel:
    return ReplicaModel(step=tokens_micros, kv_tokens=10**7, chunk_tokens=64, max_batch=1)


def test_erlang_c_has_its_textbook_values() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)


@given(servers=st.integers(1, 50), load=st.floats(0.01, 0.98))
def test_more_servers_wait_less_at_equal_load(servers: int, load: float) -> None:
    few = erlang_c(servers, load * servers)
    many = erlang_c(2 * servers, load * 2 * servers)
    assert 0 < many <= few < 1


def test_one_server_is_the_same_in_every_form() -> None:
    wait = mmc_wait(1, 0.7, 1.0)
    assert mg1_wait(0.7, 1.0, 1.0) == pytest.approx(wait)
    assert kingman_wait(0.7, 1.0, 1.0, 1.0) == pytest.approx(wait)
    assert mg1_wait(0.7, 1.0, 0.0) == pytest.approx(wait / 2)


def test_the_mean_is_the_integral_of_the_quantiles() -> None:
    shares = (np.arange(200_000) + 0.5) / 200_000
    waits = [mmc_wait_quantile(3, 2.4, 1.0, float(share)) for share in shares[::20]]
    assert np.mean(waits) == pytest.approx(mmc_wait(3, 2.4, 1.0), rel=0.01)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (3, 0.8)])
def test_the_replay_is_m_m_c(servers: int, load: float) -> None:
    """Answers of geometric length, one at a time, the longest idle replica first: within three
    standard errors of Erlang."""
    draw = np.random.default_rng(servers)
    count, tokens = 60_000, 200
    service = tokens * 1e-3
    gaps = draw.exponential(service / servers / load, count)
    lengths = draw.geometric(1 / tokens, count)
    moments = np.cumsum(gaps) * 1e6
    # One central queue: each goes where it can start first, which is known as lengths are.
    free = np.zeros(servers)
    waits = np.zeros(count)
    places: list[int] = []
    for number, (at, length) in enumerate(zip(moments, lengths, strict=True)):
        place = int(np.argmin(free))
        waits[number] = max(0.0, free[place] - at)
        free[place] = max(at, free[place]) + 1_000 * length
        places.append(place)
    chosen = iter(places)
    arrivals = [
        Arrival(Micros(int(at)), 1, int(length) + 1)
        for at, length in zip(moments, lengths, strict=True)
    ]
    served = replay_fleet([one_by_one()] * servers, arrivals, lambda _, __: next(chosen))
    felt = np.array([one.started - one.arrival.at for one in served]) / 1e6
    means = felt.reshape(60, -1).mean(axis=1)
    expected = mmc_wait(servers, load * servers / service, service)
    error = 3 * means.std() / math.sqrt(len(means))
    assert abs(felt.mean() - expected) < error
    assert error < 0.25 * expected


def test_a_load_of_one_or_more_is_refused() -> None:
    with pytest.raises(UnstableError, match="load is 1, expected below 1"):
        mmc_wait(2, 2.0, 1.0)
    with pytest.raises(ValueError, match="0 servers"):
        erlang_c(0, 0.5)


ROOFLINE = StepCost(fixed=8_000.0, prefill=80.0, decode=60.0, context=0.02)
REPLICA = ReplicaModel(step=ROOFLINE, kv_tokens=500_000, chunk_tokens=2048, max_batch=256)


@pytest.mark.parametrize("rate", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_where_the_closed_form_holds_it_is_what_a_replay_shows(rate: float, spread: float) -> None:
    stream = Stream(arrivals_per_second=rate, prompt_tokens=500, output_tokens=200, spread=spread)
    found = balance(REPLICA, stream)
    assert found.holds
    shown = simulate_quantiles(REPLICA, stream, 0.5, count=1_000, samples=3)
    assert found.step_micros == pytest.approx(shown.tpot.expected, rel=0.05)


def test_the_batch_at_balance_is_the_replays_by_littles_law() -> None:
    stream = Stream(arrivals_per_second=3.0, prompt_tokens=500, output_tokens=200, spread=0.0)
    arrivals = stream.sample(3_000, seed=1)
    served = replay(REPLICA, arrivals)
    inside = latencies(served).e2e.sum() / (served[-1].last_token - arrivals[0].at)
    assert balance(REPLICA, stream).batch == pytest.approx(inside, rel=0.05)


def test_more_than_the_largest_batch_carries_is_refused() -> None:
    with pytest.raises(UnstableError, match="largest batch of 256"):
        balance(REPLICA, Stream(arrivals_per_second=60, prompt_tokens=500, output_tokens=200))


def test_bursts_make_the_tail_longer() -> None:
    def tail(burstiness: float) -> float:
        stream = Stream(
            arrivals_per_second=8, prompt_tokens=500, output_tokens=200, burstiness=burstiness
        )
        return simulate_quantiles(REPLICA, stream, 0.99, count=2_000, samples=3).ttft.expected

    assert tail(3.0) > 1.5 * tail(1.0)


def test_equal_seeds_give_equal_quantiles_and_other_seeds_others() -> None:
    stream = Stream(arrivals_per_second=2, prompt_tokens=500, output_tokens=200)

    def of(seed: int) -> object:
        return simulate_quantiles(REPLICA, stream, 0.9, replicas=2, count=300, samples=3, seed=seed)

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_a_sample_has_the_streams_means() -> None:
    stream = Stream(
        arrivals_per_second=4, prompt_tokens=800, output_tokens=150, burstiness=2.0, spread=0.7
    )
    sample = stream.sample(40_000, seed=3)
    gaps = np.diff([one.at for one in sample])
    assert 1e6 / gaps.mean() == pytest.approx(4, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.05)
    assert np.mean([one.prompt_tokens for one in sample]) == pytest.approx(800, rel=0.03)
