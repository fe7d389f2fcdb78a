"""What the house's watch is told of simulated replicas: every step, once, in its time; and looking
changes nothing."""

import numpy as np
import pytest
from serving_scenarios import SECOND, Counts, make_serving

from meted.domain.allocation import DeploymentDemand, Harvest
from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.replay import replay
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.result import DeploymentResult
from meted.sim.scenario import Outage, SimRequest
from meted.sim.world import simulate

MODEL = ReplicaModel(
    step=StepCost(fixed=9_000, prefill=90, decode=700, context=3, attention=1),
    kv_tokens=1_000_000,
    chunk_tokens=256,
    max_batch=6,
)
"""Whole microseconds, so that a sum of steps is the same however it is grouped."""
HORIZON = 60 * SECOND


def make_requests(seed: int, count: int = 60) -> list[SimRequest]:
    random = np.random.default_rng(seed)
    moments = sorted(random.integers(5 * SECOND, 35 * SECOND, count).tolist())
    return [
        SimRequest(Micros(at), int(random.integers(1, 900)), int(random.integers(1, 300)))
        for at in moments
    ]


def steps_told(demand: DeploymentDemand) -> int:
    """Steps that the watch has counted while nothing trained."""
    return next(one.samples for one in demand.predicted if one.harvest is Harvest.NONE)


def look(
    requests: list[SimRequest], *, every: int, outages: tuple[Outage, ...] = ()
) -> tuple[dict[int, int], DeploymentResult]:
    """The steps told at each whole number of 5 seconds, and what became of the requests."""
    # Two replicas, and from 20 s on one: the other drains with what it has.
    counts = (2,) * 20 + (1,)
    policy = Counts(by_second=counts)
    result = simulate(
        make_serving(
            requests, policy=policy, model=MODEL, interval=every, horizon=HORIZON, outages=outages
        )
    )
    told = {
        place * every: steps_told(one)
        for place, one in enumerate(policy.seen)
        if place * every % (5 * SECOND) == 0
    }
    return told, result.deployments[0]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_how_often_one_looks_changes_neither_what_is_told_nor_what_happens(
    seed: int, lost: bool
) -> None:
    outage = Outage(at=Micros(15 * SECOND), devices=frozenset({1}), back=None, reason="gone")
    outages = (outage,) if lost else ()
    requests = make_requests(seed)
    told, became = look(requests, every=SECOND, outages=outages)
    assert len(told) == 13
    assert 0 < told[10 * SECOND] < told[20 * SECOND] < told[30 * SECOND]
    for every in (SECOND // 5, SECOND // 20):
        assert look(requests, every=every, outages=outages) == (told, became)


def test_every_step_of_a_replica_is_told_once() -> None:
    requests = make_requests(3)
    policy = Counts(by_second=(1,))
    simulate(make_serving(requests, policy=policy, model=MODEL, horizon=HORIZON))
    alone = replay(
        MODEL, [Arrival(one.at, one.prompt_tokens, one.output_tokens) for one in requests]
    )
    first, last = alone[0].started, max(one.last_token for one in alone)
    assert last < HORIZON - SECOND
    tokens = sum(one.output_tokens for one in requests)
    # The running mean of tokens a second forgets half in 5 s: what it was told is its sum over
    # the seconds, but for what it has not told yet.
    told = sum(one.tokens_per_second for one in policy.seen)
    keep = 2 ** (-1 / 5)
    rest = policy.seen[-1].tokens_per_second * keep / (1 - keep)
    assert first > 0
    assert told + rest == pytest.approx(tokens, rel=1e-9)
