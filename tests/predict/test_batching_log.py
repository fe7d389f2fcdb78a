"""What a batcher notes of its steps, and what it says of those that nothing has run yet."""

import numpy as np
import pytest

from meted.domain.units import Micros
from meted.predict.batching import Arrival, Batcher, Served, Steps
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost

MODEL = ReplicaModel(
    step=StepCost(fixed=1_000, prefill=100, decode=50, context=2, attention=1),
    kv_tokens=100_000,
    chunk_tokens=64,
    max_batch=4,
)
"""Whole microseconds, so that a sum of steps is the same however it is grouped."""


def batcher(seed: int, count: int = 30) -> Batcher:
    random = np.random.default_rng(seed)
    made = Batcher(replica=MODEL, log=[])
    for at in sorted(random.integers(0, 3_000_000, count).tolist()):
        prompt, output = random.integers(1, 200), random.integers(1, 90)
        made.add(Served(Arrival(Micros(at), int(prompt), int(output))))
    return made


def one_by_one(log: list[Steps]) -> list[tuple[int, float]]:
    """When each step ended, and its micros."""
    found: list[tuple[int, float]] = []
    for steps in log:
        at = float(steps.began)
        for place in range(steps.steps):
            micros = steps.middle(place, place + 1)[1]
            at += micros
            found.append((round(at), micros))
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noted_steps_are_those_of_a_batcher_that_runs_them_one_by_one(seed: int) -> None:
    grouped, single = batcher(seed), batcher(seed)
    grouped.advance()
    while not single.idle:
        single.advance(single.now + 1)
    assert grouped.log is not None
    assert single.log is not None
    assert len(grouped.log) < len(single.log) == single.steps
    assert {steps.steps for steps in single.log} == {1}
    assert one_by_one(grouped.log) == one_by_one(single.log)
    assert sum(steps.micros for steps in grouped.log) == grouped.busy_micros
    work = [MODEL.step.micros(steps.middle(0, steps.steps)[0]) for steps in grouped.log]
    assert work == [steps.middle(0, steps.steps)[1] for steps in grouped.log]


@pytest.mark.parametrize("seed", [1, 2])
def test_steps_that_have_ended_by_a_moment_are_counted(seed: int) -> None:
    made = batcher(seed)
    made.advance()
    assert made.log is not None
    for steps in made.log:
        ends = [at for at, _ in one_by_one([steps])]
        for at in (steps.began - 1, steps.began, *ends, *(end - 1 for end in ends)):
            assert steps.ended_by(at) == sum(end <= at for end in ends)


def test_steps_under_way_are_those_that_it_then_runs() -> None:
    made = Batcher(replica=MODEL, log=[])
    made.add(Served(Arrival(Micros(0), 60, 80)))
    assert made.under_way() is None
    made.step()
    expected = made.under_way()
    assert expected is not None
    made.step()
    assert made.log is not None
    assert made.log[-1] == expected
    assert made.under_way() is None
