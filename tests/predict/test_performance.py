"""A replica's performance follows its batch: more at once is more throughput, slower for each."""

import pytest

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.predict.batch import Batch, prefill_steps
from meted.predict.calibration import Calibration, calibrate
from meted.predict.linear import linearised
from meted.predict.performance import SaturatedError, batch_under_load, predict_performance
from meted.predict.setup import DoesNotFitError, Setup

H100 = lookup_device_kind("h100")
UNSEEN: Calibration = calibrate([])


def setup(model: str, *, tensor: int = 1) -> Setup:
    return Setup(
        architecture=lookup_architecture(model),
        kind=H100,
        algorithm=ServingAlgorithm(parallelism=Parallelism(tensor=tensor)),
    )


def batch(requests: int) -> Batch:
    return Batch(requests=requests, prompt=1_000, output=200)


@pytest.mark.parametrize("requests", [1, 3, 16])
@pytest.mark.parametrize("chunk", [64, 256, 5_000])
def test_chunks_compute_every_prompt_token_once_and_attend_to_all_before(
    requests: int, chunk: int
) -> None:
    one = Batch(requests=requests, prompt=300, output=40)
    steps = prefill_steps(one, chunk)
    assert sum(step.prefill_tokens for step in steps) == requests * 300
    assert sum(step.attended for step in steps) == pytest.approx(requests * 300**2 / 2, rel=0.01)
    # A prompt's last chunk yields its first token in the same step.
    assert all(step.prefill_tokens + step.decode_tokens <= chunk + requests for step in steps)


def test_who_has_its_first_token_generates_beside_the_prompts_of_the_others() -> None:
    steps = prefill_steps(Batch(requests=2, prompt=4, output=3), 4)
    assert [step.prefill_tokens for step in steps] == [4, 3, 1]
    assert [step.decode_tokens for step in steps] == [1, 1, 2]
    assert [step.context_tokens for step in steps] == [0, 5, 6]


def test_more_at_once_is_more_throughput_and_cheaper_but_slower_for_each() -> None:
    one = setup("llama-3.1-8b")
    few, many = (
        predict_performance(one, UNSEEN, batch(n), usd_per_device_hour=3.0) for n in (1, 32)
    )
    assert many.tokens_per_second.expected > 5 * few.tokens_per_second.expected
    assert many.tpot.expected > few.tpot.expected
    assert many.ttft.expected > few.ttft.expected
    assert many.joules_per_token.expected < few.joules_per_token.expected
    assert many.usd_per_million is not None and few.usd_per_million is not None
    assert many.usd_per_million.expected < few.usd_per_million.expected / 5


def test_dollars_are_the_devices_time_over_the_tokens_they_yield() -> None:
    found = predict_performance(
        setup("llama-3.1-70b", tensor=4), UNSEEN, batch(8), usd_per_device_hour=3.0
    )
    assert found.usd_per_million is not None
    per_second = 4 * 3.0 / 3600
    expected = per_second / found.tokens_per_second.expected * 1e6
    assert found.usd_per_million.expected == pytest.approx(expected)


def test_a_load_keeps_the_smallest_batch_that_answers_it() -> None:
    one = setup("llama-3.1-8b")
    needed = batch_under_load(one, UNSEEN, rate=4.0, prompt=1_000, output=200)
    answers = predict_performance(one, UNSEEN, needed).requests_per_second.expected
    assert answers >= 4.0
    fewer = predict_performance(one, UNSEEN, batch(needed.requests - 1))
    assert fewer.requests_per_second.expected < 4.0


def test_what_cannot_be_names_what_is_too_much() -> None:
    with pytest.raises(SaturatedError, match="1000 requests"):
        batch_under_load(setup("llama-3.1-8b"), UNSEEN, rate=1_000, prompt=1_000, output=200)
    with pytest.raises(ValueError, match="at most"):
        predict_performance(setup("llama-3.1-8b"), UNSEEN, batch(100_000))
    with pytest.raises(DoesNotFitError, match="weights"):
        predict_performance(setup("llama-3.1-70b"), UNSEEN, batch(1))


def test_a_line_through_a_roofline_is_near_it_at_the_sizes_that_a_replica_sees() -> None:
    step = UNSEEN.replica(setup("llama-3.1-8b")).step
    line = linearised(step, chunk_tokens=2_048, max_batch=64)
    for requests in (1, 8, 64):
        work = batch(requests).steady_step()
        assert line.micros(work) == pytest.approx(step.micros(work), rel=0.35)
    (prompt,) = prefill_steps(batch(1), 2_048)
    assert line.micros(prompt) == pytest.approx(step.micros(prompt), rel=0.35)
