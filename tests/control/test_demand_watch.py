"""The watch learns wall time for latencies and device time for the books, apart from each other."""

import random

import pytest

from meted.control.demand_watch import DemandWatch
from meted.domain.allocation import Harvest
from meted.domain.step import StepShare
from meted.domain.units import DeviceNanos, Micros, RequestId, Tokens
from meted.predict.step_time import DEVICE_PRIOR, StepCost, StepWork, scaled, work_of
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


ALONE = StepCost(fixed=14_000, prefill=290, decode=1_600, context=3)
THREADS = 2


def run(
    watch: DemandWatch,
    rng: random.Random,
    steps: int,
    *,
    slower: float = 1.0,
    busy: float = 0.98,
    slower_device: float | None = None,
) -> None:
    """Steps of an engine on two threads that keeps them busy for a share of the wall time."""
    for _ in range(steps):
        shares = batch(rng)
        alone = ALONE.micros(work_of(shares)) * rng.uniform(0.95, 1.05)
        wall = alone * slower
        device = THREADS * busy * (wall if slower_device is None else alone * slower_device)
        watch.stepped(shares, round(wall), DeviceNanos(round(device * 1000)))


def believing(factor: float = 1.0) -> DemandWatch:
    watch = DemandWatch(make_deployment())
    watch.believe(scaled(ALONE, factor), deviation=0.15, threads=THREADS)
    return watch


def test_a_prediction_is_believed_until_steps_come_and_never_after() -> None:
    watch = believing()
    assert watch.cost.fixed == pytest.approx(ALONE.fixed)
    assert watch.device_cost.prefill == pytest.approx(THREADS * ALONE.prefill)
    run(watch, random.Random(1), 64)
    fitted = watch.cost
    watch.believe(scaled(ALONE, 5), deviation=0.1, threads=THREADS)
    assert watch.cost == fitted


def test_the_slowdown_beside_training_is_explained_and_no_drift() -> None:
    rng, watch = random.Random(2), believing()
    run(watch, rng, 640)
    watch.harvest = Harvest.IDLE
    run(watch, rng, 2_000, slower=1.4)
    watch.harvest = Harvest.NONE
    run(watch, rng, 640)
    assert watch.take_drifts() == []
    predicted, measured, steps = watch.slowdowns()[Harvest.IDLE]
    assert (predicted, steps) == (1.25, 2_000)
    assert measured == pytest.approx(1.4, rel=0.05)


def test_an_engine_that_became_slower_is_told_from_cores_that_others_take() -> None:
    rng = random.Random(3)
    engine, others = believing(), believing()
    for watch in (engine, others):
        run(watch, rng, 1_024)
    run(engine, rng, 300, slower=1.3)
    run(others, rng, 300, slower=1.6, slower_device=1.05)
    (changed,), (shared,) = engine.take_drifts(), others.take_drifts()
    assert not changed.shared
    assert "has changed" in changed.sentence
    assert shared.shared
    assert "other processes" in shared.sentence
    assert engine.take_drifts() == []
    # What is calibrated with from now on was measured since, but for the block in which it began.
    alone = [micros / ALONE.micros(work) for work, micros in engine.undisturbed]
    assert len(alone) < 400
    assert sorted(alone)[len(alone) // 4] > 1.2


def test_steps_that_shared_their_cores_tell_nothing_of_the_machine() -> None:
    rng, watch = random.Random(4), believing()
    run(watch, rng, 20)
    run(watch, rng, 15, slower=1.8, slower_device=1.0)
    assert len(watch.undisturbed) == 20
    assert watch.disturbed == 15


@pytest.mark.parametrize("before", [0, 7, 49, 200])
def test_steps_told_together_count_like_steps_told_one_by_one(before: int) -> None:
    work = StepWork(prefill_tokens=0, decode_tokens=3, context_tokens=900)
    alone = ALONE.micros(work)
    together, each = believing(), believing()
    for watch in (together, each):
        run(watch, random.Random(5), 64)
        watch.harvest = Harvest.IDLE
        for _ in range(before):
            watch.computed(work, alone)
    for _ in range(80):
        each.computed(work, 1.5 * alone)
    together.computed(work, 1.5 * alone, steps=80)
    assert each.slowdowns()[Harvest.IDLE][2] == before + 80
    assert together.slowdowns()[Harvest.IDLE][2] == before + 80
    mean = each.slowdowns()[Harvest.IDLE][1]
    assert 1.2 < mean < 1.6
    assert together.slowdowns()[Harvest.IDLE][1] == pytest.approx(mean)
    seen = [
        watch.demand(Micros(5_000_000), queued=0, running=0, replicas=1, elapsed_s=5, ahead_s=1)
        for watch in (together, each)
    ]
    assert [one.predicted for one in seen[:1]] == [one.predicted for one in seen[1:]]


def test_requests_told_together_are_forecast_like_requests_told_one_by_one() -> None:
    together, each = believing(), believing()
    together.arrived(Micros(900_000), 3)
    for at in (100_000, 400_000, 900_000):
        each.arrived(Micros(at))
    seen = [
        watch.demand(Micros(1_000_000), queued=0, running=0, replicas=1, elapsed_s=1, ahead_s=1)
        for watch in (together, each)
    ]
    assert seen[0] == seen[1]
    assert seen[0].quiet == 100_000
    assert seen[0].arrivals_per_second > 0
