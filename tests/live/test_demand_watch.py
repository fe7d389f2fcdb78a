"""The watch learns wall time for latencies and device time for the books, apart from each other."""

import random

import pytest

from meted.domain.allocation import Harvest
from meted.domain.step import StepShare
from meted.domain.units import DeviceNanos, RequestId, Tokens
from meted.live.demand_watch import DemandWatch
from meted.predict.step_time import DEVICE_PRIOR, StepCost, work_of
from meted.testing.builders import make_deployment

DEVICE = StepCost(fixed=18_000, prefill=2_700, decode=4_300, context=9, attention=1.0)


def batch(rng: random.Random) -> list[StepShare]:
    prompt = rng.choice([0, 0, 60, 256])
    shares = [(0, 1, rng.randint(20, 900)) for _ in range(rng.randint(1, 6))]
    if prompt:
        shares.append((prompt, 1, prompt + rng.randint(0, 500)))
    return [
        StepShare(
            request_id=RequestId(f"r{index}"),
            prefill_tokens=Tokens(prefill),
            cached_tokens=Tokens(0),
            decode_tokens=Tokens(decode),
            context_tokens=Tokens(context),
        )
        for index, (prefill, decode, context) in enumerate(shares)
    ]


def test_before_anything_is_measured_device_time_is_split_by_its_prior() -> None:
    assert DemandWatch(make_deployment()).device_cost == DEVICE_PRIOR


def test_a_training_job_beside_it_lengthens_the_clock_on_the_wall_not_the_books_cost() -> None:
    rng = random.Random(11)
    watch = DemandWatch(make_deployment())
    for step in range(1_024):
        watch.harvest = Harvest.NONE if step < 512 else Harvest.IDLE
        shares = batch(rng)
        device_us = DEVICE.micros(work_of(shares))
        wall = device_us / 2 if step < 512 else device_us * rng.uniform(0.5, 3)
        watch.stepped(shares, round(wall), DeviceNanos(round(device_us * 1000)))
    assert watch.device_cost.prefill == pytest.approx(DEVICE.prefill, rel=0.05)
    assert watch.device_cost.decode == pytest.approx(DEVICE.decode, rel=0.05)
    assert watch.device_cost.attention == pytest.approx(DEVICE.attention, rel=0.1)
    assert watch.cost.decode == pytest.approx(DEVICE.decode / 2, rel=0.1)


def test_a_step_without_device_time_teaches_only_wall_time() -> None:
    watch = DemandWatch(make_deployment())
    for _ in range(16):
        watch.stepped(batch(random.Random(1)), 40_000)
    assert watch.device_cost == DEVICE_PRIOR
