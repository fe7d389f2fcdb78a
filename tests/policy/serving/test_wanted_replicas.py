"""Counts follow load, count what loads already, and do not flap."""

from dataclasses import replace

import pytest

from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.policy.serving.counting import Scale, ScaleMemory, wanted_replicas
from meted.testing.builders import make_demand

SCALE = Scale(busy=0.8, hysteresis=0.3, drain_s=60.0, window_s=300.0)


def demand(rate: float, *, queued: int = 0, replicas: int = 0, starting: int = 0):
    return replace(
        make_demand("m", rate=rate, queued=queued),
        replicas=replicas,
        starting=starting,
        running=0,
        least=0,
        most=100,
    )


def count(rate: float, previous: int, at_s: float = 0.0, memory: ScaleMemory | None = None):
    return wanted_replicas(
        demand(rate),
        1.0,
        previous=previous,
        now=Micros(round(at_s * MICROS_PER_SECOND)),
        memory=memory,
        scale=SCALE,
    )


def test_replicas_that_load_are_not_asked_for_again() -> None:
    memory, previous, seen = None, 1, []
    for tick in range(6):
        called = demand(2.0, queued=60, replicas=1, starting=previous - 1)
        previous, memory, _ = wanted_replicas(
            called,
            1.0,
            previous=previous,
            now=Micros(tick * 15 * MICROS_PER_SECOND),
            memory=memory,
            scale=SCALE,
        )
        seen.append(previous)
    # 2 requests/s and 60 queued in 60 s are 3 requests/s; 3 / 0.8 replicas.
    assert seen == [4] * 6


def test_a_load_about_a_threshold_does_not_flap() -> None:
    memory, previous, seen = None, 2, set[int]()
    for tick in range(200):
        rate = 0.79 if tick % 2 else 0.81
        previous, memory, _ = count(rate, previous, 60.0 * tick, memory)
        seen.add(previous)
    assert seen == {2}


def test_a_count_falls_only_after_a_calm_window() -> None:
    peak, memory, _ = count(8.0, 1, 0.0)
    soon, memory, reason = count(1.0, peak, 200.0, memory)
    late, memory, _ = count(1.0, soon, 301.0, memory)
    assert (peak, soon, late) == (10, 10, 2)
    assert "until 300 s have been calmer" in reason


def test_bounds_are_kept_and_told() -> None:
    got, _, reason = wanted_replicas(
        replace(demand(50.0), most=3), 1.0, previous=1, now=Micros(0), memory=None
    )
    assert got == 3 and "bounds 0 to 3" in reason


def test_without_load_nothing_is_wanted_but_what_works_stays() -> None:
    assert count(0.0, 0)[0] == 0
    busy = replace(demand(0.0), running=1)
    assert wanted_replicas(busy, 1.0, previous=1, now=Micros(0), memory=None)[0] == 1


def test_a_replica_that_answers_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        wanted_replicas(demand(1.0), 0.0, previous=1, now=Micros(0), memory=None)
