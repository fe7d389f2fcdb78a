"""Queues in closed form: against each other, against sums by hand, and against replay."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.queueing import (
    Traffic,
    UnstableError,
    erlang_c,
    kingman_wait,
    mg1_wait,
    mmc_wait,
)
from meted.predict.replay import latencies, replay
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost


def test_erlang_c_is_the_sum_in_the_books() -> None:
    offered, servers = 6.5, 8
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    others = sum(offered**count / math.factorial(count) for count in range(servers))
    assert erlang_c(servers, offered) == pytest.approx(last / (others + last))
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


@given(servers=st.integers(1, 50), load=st.floats(0.01, 0.98))
def test_more_servers_wait_less_at_equal_load(servers: int, load: float) -> None:
    few, many = erlang_c(servers, load * servers), erlang_c(2 * servers, load * 2 * servers)
    assert 0 < many <= few < 1


def test_the_mean_is_the_integral_of_the_quantiles() -> None:
    wait = mmc_wait(2.4, 1.0, 3)
    shares = (np.arange(20_000) + 0.5) / 20_000
    assert np.mean([wait.quantile(float(one)) for one in shares]) == pytest.approx(
        wait.mean, rel=0.01
    )


def test_one_exponential_server_is_a_case_of_both_forms() -> None:
    several, general = mmc_wait(0.6, 1.2, 1), mg1_wait(0.6, 1.2, 1.0)
    assert several.mean == pytest.approx(general.mean) == pytest.approx(0.72 * 1.2 / 0.28)
    assert several.quantile(0.99) == pytest.approx(general.quantile(0.99))
    kingman = kingman_wait(0.6, 1.2, arrival_cv=1.0, service_cv=0.3)
    assert kingman == pytest.approx(mg1_wait(0.6, 1.2, 0.3).mean)


def test_a_quantile_is_exceeded_by_the_rest() -> None:
    wait = mmc_wait(3.0, 1.0, 4)
    assert wait.beyond(wait.quantile(0.95)) == pytest.approx(0.05)
    assert wait.quantile(0.3) == 0.0


@pytest.mark.parametrize("servers", [1, 3])
def test_more_work_than_servers_has_no_steady_state(servers: int) -> None:
    with pytest.raises(UnstableError, match=rf"there are {servers}"):
        mmc_wait(float(servers), 1.0, servers)


def means_of_batches(values: np.ndarray) -> tuple[float, float]:
    """Mean, and three deviations of it from the means of 40 batches."""
    batches = values.reshape(40, -1).mean(axis=1)
    return float(values.mean()), 3 * float(batches.std()) / math.sqrt(len(batches))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 0.8)])
def test_requests_of_steady_steps_wait_as_in_erlangs_queue(servers: int, load: float) -> None:
    """A step that costs the same whatever is in it makes each place in the batch a server, and
    geometric lengths of 300 steps nearly exponential service. A step's end is waited for besides:
    half a step before it is let in, unless the replica is idle."""
    step, mean = 1_000, 300
    model = ReplicaModel(
        step=StepCost(fixed=float(step), prefill=0.0, decode=0.0, context=0.0),
        kv_tokens=10_000_000,
        chunk_tokens=10_000,
        max_batch=servers,
    )
    draw = np.random.default_rng(21)
    count = 40_000
    moments = np.cumsum(draw.exponential(step * mean / (load * servers), count)).astype(int)
    outputs = draw.geometric(1 / mean, count)
    served = replay(
        model,
        [Arrival(Micros(int(at)), 1, int(out)) for at, out in zip(moments, outputs, strict=True)],
    )
    waits = np.array([one.started - one.arrival.at for one in served], dtype=float)
    wait = mmc_wait(load * servers / (step * mean), step * mean, servers)
    found, error = means_of_batches(waits)
    assert abs(found - wait.mean) < error + step
    assert error < 0.25 * wait.mean
    found, error = means_of_batches((waits > wait.quantile(0.9)).astype(float))
    assert abs(found - 0.1) < error + 0.005


def test_one_exponential_prompt_at_a_time_is_pollaczek_khinchine() -> None:
    """Lengths with a deviation of 1.5 means, one output token: M/G/1."""
    draw = np.random.default_rng(22)
    count, mean, cv, load = 80_000, 1_000.0, 1.5, 0.5
    lengths = np.maximum(1, draw.gamma(cv**-2, mean * cv**2, count)).astype(int)
    moments = np.cumsum(draw.exponential(lengths.mean() / load, count)).astype(int)
    model = ReplicaModel(
        step=StepCost(fixed=0.0, prefill=1.0, decode=0.0, context=0.0),
        kv_tokens=10_000_000,
        chunk_tokens=1_000_000,
        max_batch=1,
    )
    arrivals = [
        Arrival(Micros(int(at)), int(prompt), 1)
        for at, prompt in zip(moments, lengths, strict=True)
    ]
    waits = latencies(replay(model, arrivals)).ttft - lengths
    found, error = means_of_batches(waits)
    service = float(lengths.mean())
    wait = mg1_wait(load / service, service, float(lengths.std()) / service)
    assert abs(found - wait.mean) < error
    assert error < 0.2 * wait.mean


def test_traffic_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="arrival_cv of traffic is 0, expected more than 0"):
        Traffic(arrivals_per_second=1, prompt_tokens=1, output_tokens=1, arrival_cv=0.0)
    with pytest.raises(ValueError, match=r"output_tokens of traffic is 0\.5, expected 1 or more"):
        Traffic(arrivals_per_second=1, prompt_tokens=1, output_tokens=0.5)
