"""A fleet in replay: who gets a request, when a replica takes any, and how busy it was."""

import numpy as np
import pytest

from meted.domain.units import Micros
from meted.predict.batching import Arrival, Batcher, Served
from meted.predict.replay import (
    NoReplicaError,
    Up,
    attainment,
    busy_micros,
    replay_fleet,
    weighted,
)
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost

REPLICA = ReplicaModel(
    step=StepCost(fixed=1_000.0, prefill=10.0, decode=50.0, context=1.0),
    kv_tokens=20_000,
    chunk_tokens=256,
    max_batch=16,
)


def arrivals(gap: float, count: int = 300) -> list[Arrival]:
    draw = np.random.default_rng(9)
    moments = np.cumsum(draw.exponential(gap, count)).astype(int)
    return [Arrival(Micros(int(at)), 100, int(draw.integers(1, 60))) for at in moments]


def test_each_request_is_served_once_by_the_replica_it_was_sent_to() -> None:
    served = replay_fleet([REPLICA] * 3, arrivals(5_000))
    assert [one.arrival for one in served] == arrivals(5_000)
    assert all(one.arrival.at < one.first_token <= one.last_token for one in served)


def test_weights_share_the_requests_under_load() -> None:
    served = replay_fleet([REPLICA, REPLICA], arrivals(500), weighted([3.0, 1.0]))
    first = sum(one.replica == 0 for one in served)
    assert first / len(served) == pytest.approx(0.75, abs=0.05)


def test_a_replica_takes_requests_only_while_it_is_up_and_drains_after() -> None:
    came = arrivals(3_000)
    middle = came[150].at
    up = [Up(), Up(until=middle), Up(since=middle)]
    served = replay_fleet([REPLICA] * 3, came, up=up)
    assert {one.replica for one in served} == {0, 1, 2}
    assert all(one.arrival.at < middle for one in served if one.replica == 1)
    assert all(one.arrival.at >= middle for one in served if one.replica == 2)
    drained = [one for one in served if one.replica == 1 and one.last_token > middle]
    assert drained


def test_a_request_while_no_replica_is_up_is_refused() -> None:
    with pytest.raises(NoReplicaError, match=r"comes at 500 us, when none of 1"):
        replay_fleet([REPLICA], [Arrival(Micros(500), 10, 1)], up=[Up(until=Micros(500))])


def test_the_union_of_stays_is_the_time_of_all_steps() -> None:
    came = arrivals(60_000)
    served = [Served(one) for one in came]
    batcher = Batcher(replica=REPLICA)
    for one in served:
        batcher.add(one)
    batcher.advance()
    assert busy_micros(served) == batcher.busy_micros
    assert busy_micros(served) < 0.9 * (batcher.now - came[0].at)


def test_a_router_sees_memory_fill_and_empty() -> None:
    batcher = Batcher(replica=REPLICA)
    assert batcher.kv_used == 0.0
    batcher.add(Served(Arrival(Micros(0), 1_600, 20)))
    batcher.advance(1_000 + 10 * 256)
    assert batcher.kv_used == pytest.approx(100 / 1_250)
    batcher.advance()
    assert batcher.kv_used == 0.0


def test_attainment_is_the_share_inside_and_leaves_out_what_has_no_value() -> None:
    assert attainment(np.array([1.0, 2.0, 3.0, np.nan]), Micros(2)) == pytest.approx(2 / 3)
