"""Latency under traffic: the closed form against replay where it says that it holds."""

from dataclasses import replace

import numpy as np
import pytest

from meted.predict.latency import CLOSED_ERROR, draw_arrivals, predict_latency
from meted.predict.queueing import Traffic
from meted.predict.replay import latencies, replay
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost, scaled

COST = StepCost(fixed=8_000.0, prefill=60.0, decode=40.0, context=0.07, attention=0.004)
"""Near an 8B model on an A100."""
REPLICA = ReplicaModel(step=COST, kv_tokens=400_000, chunk_tokens=2_048, max_batch=256)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(
    ("rate", "prompt", "output"),
    [(1.0, 200, 100), (8.0, 200, 100), (2.0, 1_000, 200), (0.2, 3_000, 300), (4.0, 100, 400)],
)
def test_the_closed_form_holds_where_it_is_valid(
    rate: float, prompt: int, output: int, share: float
) -> None:
    traffic = Traffic(arrivals_per_second=rate, prompt_tokens=prompt, output_tokens=output)
    told = predict_latency(REPLICA, traffic, share=share, seed=0)
    assert not told.simulated
    felt = latencies(replay(REPLICA, draw_arrivals(traffic, 6_000, seed=1))[600:])
    assert told.ttft.expected == pytest.approx(np.quantile(felt.ttft, share), rel=CLOSED_ERROR)
    assert told.tpot.expected == pytest.approx(np.quantile(felt.tpot, share), rel=CLOSED_ERROR)
    assert told.e2e.expected == pytest.approx(np.quantile(felt.e2e, share), rel=CLOSED_ERROR)


BURSTS = Traffic(
    arrivals_per_second=4.0,
    prompt_tokens=500,
    output_tokens=150,
    length_cv=1.0,
    arrival_cv=2.0,
)


def test_elsewhere_it_is_replayed_and_its_interval_holds_a_long_replay() -> None:
    told = predict_latency(REPLICA, BURSTS, share=0.95, seed=3, requests=1_500)
    assert told.simulated and told.stable
    felt = latencies(replay(REPLICA, draw_arrivals(BURSTS, 20_000, seed=99)))
    assert told.ttft.low < np.quantile(felt.ttft, 0.95) < told.ttft.high
    assert told.tpot.low < np.nanquantile(felt.tpot, 0.95) < told.tpot.high
    assert 0.5 < told.utilisation <= 1.0


def test_the_same_seed_predicts_the_same() -> None:
    one, other = (
        predict_latency(REPLICA, BURSTS, share=0.9, seed=4, requests=300) for _ in range(2)
    )
    assert one == other
    assert one != predict_latency(REPLICA, BURSTS, share=0.9, seed=5, requests=300)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_doubt_about_the_replica_widens_both_ways_of_predicting(share: float) -> None:
    traffic = Traffic(arrivals_per_second=2.0, prompt_tokens=300, output_tokens=100)
    doubt = [replace(REPLICA, step=scaled(COST, factor)) for factor in (0.5, 0.7, 1.4, 2.0)]
    sure = predict_latency(REPLICA, traffic, share=share, seed=6, requests=400)
    unsure = predict_latency(REPLICA, traffic, share=share, seed=6, requests=400, doubt=doubt)
    assert unsure.tpot.spread > 1.5 * sure.tpot.spread
    assert unsure.tpot.expected == pytest.approx(sure.tpot.expected)


def test_more_than_it_carries_is_said_to_be_unstable() -> None:
    flood = replace(BURSTS, arrivals_per_second=100.0)
    few, many = (
        predict_latency(REPLICA, flood, share=0.5, seed=7, requests=count) for count in (200, 800)
    )
    assert not few.stable
    assert many.ttft.expected > 2 * few.ttft.expected


def test_arrivals_have_the_rate_and_the_spreads_asked_for() -> None:
    arrivals = draw_arrivals(BURSTS, 40_000, seed=8)
    gaps = np.diff([one.at for one in arrivals])
    outputs = np.array([one.output_tokens for one in arrivals])
    assert gaps.mean() == pytest.approx(250_000, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.05)
    assert outputs.mean() == pytest.approx(150, rel=0.03)
    assert outputs.std() / outputs.mean() == pytest.approx(1.0, rel=0.1)


def test_bursts_make_the_tail_longer() -> None:
    calm, bursty = (
        predict_latency(REPLICA, replace(BURSTS, arrival_cv=cv), share=0.99, seed=9)
        for cv in (1.0, 3.0)
    )
    assert bursty.ttft.expected > 1.5 * calm.ttft.expected


def test_two_replicas_share_the_traffic() -> None:
    one, two = (
        predict_latency(REPLICA, BURSTS, share=0.95, seed=9, replicas=count, requests=800)
        for count in (1, 2)
    )
    assert two.ttft.expected < one.ttft.expected
    assert two.utilisation < one.utilisation


def test_requests_that_could_never_be_held_are_left_out() -> None:
    small = replace(REPLICA, kv_tokens=2_000)
    told = predict_latency(
        small, replace(BURSTS, arrivals_per_second=0.2), share=0.9, seed=9, requests=400
    )
    assert told.stable
    with pytest.raises(ValueError, match="KV cache of 16 tokens"):
        predict_latency(replace(REPLICA, kv_tokens=16), BURSTS, share=0.9, seed=9, requests=20)
