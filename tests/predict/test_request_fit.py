"""Factors fitted to a log of requests: what was replayed with known factors is found again."""

from dataclasses import replace

import numpy as np
import pytest

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.factor_prior import factor_logs
from meted.predict.replay import latencies, replay
from meted.predict.request_fit import MeasuredRequest, fit_requests, replica_with
from meted.predict.roofline import Factors, Setup

SETUP = Setup(
    architecture=lookup_architecture("llama-3.1-8b"),
    kind=lookup_device_kind("rtx-4090"),
    algorithm=ServingAlgorithm(max_batch=32, chunk_tokens=512),
)
KV_TOKENS = 40_000


def arrivals() -> list[Arrival]:
    draw = np.random.default_rng(5)
    moments = np.cumsum(draw.exponential(800_000, 80)).astype(int)
    return [
        Arrival(Micros(int(at)), int(draw.integers(50, 1_500)), int(draw.integers(20, 300)))
        for at in moments
    ]


def told(factors: Factors, count: int) -> list[MeasuredRequest]:
    served = replay(replica_with(SETUP, factors, KV_TOKENS), arrivals())
    return [
        MeasuredRequest(first_token=Micros(one.first_token), last_token=Micros(one.last_token))
        for one in served[:count]
    ]


def test_a_slower_machine_is_found_from_its_first_requests() -> None:
    truth = replace(Factors(), memory=0.5, compute=0.3, fixed_micros=4_000.0)
    fit = fit_requests(SETUP, arrivals(), told(truth, 30), kv_tokens=KV_TOKENS)
    real = latencies(replay(replica_with(SETUP, truth, KV_TOKENS), arrivals()))
    guess = latencies(replay(replica_with(SETUP, Factors(), KV_TOKENS), arrivals()))
    found = latencies(replay(replica_with(SETUP, fit.factors, KV_TOKENS), arrivals()))
    for name in ("ttft", "tpot"):
        rest = getattr(real, name)[30:].mean()
        assert abs(getattr(guess, name)[30:].mean() / rest - 1) > 0.2
        assert getattr(found, name)[30:].mean() == pytest.approx(rest, rel=0.05)


def test_more_requests_leave_less_doubt() -> None:
    few, many = (
        fit_requests(SETUP, arrivals(), told(Factors(), count), kv_tokens=KV_TOKENS)
        for count in (3, 40)
    )
    assert np.linalg.det(np.array(many.covariance)) < np.linalg.det(np.array(few.covariance))
    assert np.allclose(factor_logs(many.factors), factor_logs(Factors()), atol=0.2)


def test_a_log_without_a_measured_request_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 of 80 requests were measured"):
        fit_requests(SETUP, arrivals(), [])
