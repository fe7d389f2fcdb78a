"""The steady batch: its laws, where it says that it does not hold, and the most that is carried."""

import pytest

from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.latency import draw_arrivals
from meted.predict.queueing import Traffic, UnstableError
from meted.predict.replay import latencies, replay
from meted.predict.replica import ReplicaModel
from meted.predict.steady_batch import capacity, steady_batch
from meted.predict.step_time import StepCost

SHARED = ReplicaModel(
    step=StepCost(fixed=5_000.0, prefill=20.0, decode=50.0, context=0.05),
    kv_tokens=300_000,
    chunk_tokens=2_048,
    max_batch=128,
)


def test_the_steady_batch_obeys_littles_law() -> None:
    steady = steady_batch(
        SHARED, Traffic(arrivals_per_second=5.0, prompt_tokens=400, output_tokens=200)
    )
    assert steady.batch == pytest.approx(5e-6 * 199 * steady.tpot)
    assert steady.tpot > steady.decode_step > 5_000


def test_traffic_that_no_batch_carries_is_refused() -> None:
    with pytest.raises(UnstableError, match=r"500 requests come per second.*batch of 128"):
        steady_batch(
            SHARED, Traffic(arrivals_per_second=500.0, prompt_tokens=400, output_tokens=200)
        )


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(arrivals_per_second=1, prompt_tokens=400, output_tokens=200, arrival_cv=2.0),
        Traffic(arrivals_per_second=1, prompt_tokens=400, output_tokens=200, length_cv=1.0),
        Traffic(arrivals_per_second=8, prompt_tokens=2_000, output_tokens=20),
        Traffic(arrivals_per_second=45, prompt_tokens=20, output_tokens=200),
    ],
)
def test_bursts_long_tails_meeting_prompts_and_full_batches_leave_the_form(
    traffic: Traffic,
) -> None:
    assert not steady_batch(SHARED, traffic).valid(0.5)


def test_the_far_tail_leaves_the_form() -> None:
    steady = steady_batch(
        SHARED, Traffic(arrivals_per_second=5.0, prompt_tokens=400, output_tokens=200)
    )
    assert steady.valid(0.9)
    assert not steady.valid(0.99)


@pytest.mark.parametrize(("prompt", "output"), [(20, 200), (400, 200), (2_000, 20), (3_000, 300)])
def test_a_replica_with_a_long_queue_answers_its_capacity(prompt: int, output: int) -> None:
    count = 3_000
    served = replay(SHARED, [Arrival(Micros(0), prompt, output)] * count)
    traffic = Traffic(arrivals_per_second=1.0, prompt_tokens=prompt, output_tokens=output)
    spent = max(one.last_token for one in served) / 1e6
    assert count / spent == pytest.approx(capacity(SHARED, traffic), rel=0.1)


def test_the_steady_batch_is_the_replays_by_littles_law() -> None:
    traffic = Traffic(arrivals_per_second=3.0, prompt_tokens=500, output_tokens=200)
    arrivals = draw_arrivals(traffic, 4_000, seed=1)
    felt = latencies(served := replay(SHARED, arrivals))
    inside = (felt.e2e - felt.ttft).sum() / (served[-1].last_token - arrivals[0].at)
    assert steady_batch(SHARED, traffic).batch == pytest.approx(inside, rel=0.05)
