"""What serving takes back costs as little as it can."""

from itertools import product

import numpy as np
import pytest

from meted.domain.allocation import JobDemand, JobOption
from meted.domain.units import JobName, Micros
from meted.policy.sharing.line import Line, Order, Victims
from meted.policy.sharing.reclaim import Lent, cheapest, ways_to_give

NODE = ("g", 0)


def lent(name: str, devices: tuple[int, ...], restart_s: int, widths: tuple[int, ...] = ()) -> Lent:
    job = JobDemand(
        job=JobName(name),
        order=len(name),
        remaining_steps=100,
        tokens_per_device_second=0.0,
        restart=Micros(restart_s * 1_000_000),
        options=tuple(
            JobOption(kind="g", devices=one, steps_per_second=float(one))
            for one in (len(devices), *widths)
        ),
    )
    on = {("g", node): tuple(one for one in devices if one // 8 == node) for node in (0, 1)}
    return Lent(job=job, kind="g", devices=devices, on={k: v for k, v in on.items() if v})


def best_by_hand(jobs: list[Lent], need: int, line: Line):
    best = None
    for choice in product(*([None, *ways_to_give(one, NODE, line)] for one in jobs)):
        taken = [one for one in choice if one is not None]
        if sum(one.gives for one in taken) >= need:
            cost = (sum(one.cost[0] for one in taken), sum(one.cost[1] for one in taken))
            best = cost if best is None else min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_it_loses_as_little_as_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs, next_device = [], 0
    for number in range(int(rng.integers(1, 5))):
        width = int(rng.choice([1, 2, 3]))
        devices = tuple(range(next_device, next_device + width))
        next_device += width
        widths = (1,) if width > 1 and rng.random() < 0.5 else ()
        jobs.append(lent("j" * (number + 1), devices, int(rng.integers(1, 200)), widths))
    jobs = [one for one in jobs if NODE in one.on]
    need = int(rng.integers(1, 8))
    found, best = cheapest(jobs, NODE, need, Line()), best_by_hand(jobs, need, Line())
    if best is None:
        assert found is None
    else:
        assert found is not None and found[0] == pytest.approx(best)
        assert sum(way.gives for way in found[1]) >= need


def test_a_job_that_can_shrink_gives_before_one_that_must_stop() -> None:
    cheap, elastic = lent("a", (0,), 1), lent("bb", (1, 2), 500, widths=(1,))
    found = cheapest([cheap, elastic], NODE, 1, Line(order=Order.SHORTEST))
    assert found is not None
    assert [(way.lent.job.job, way.keeps) for way in found[1]] == [("bb", (1,))]


def test_the_youngest_goes_first_where_that_is_the_rule() -> None:
    old, young = lent("a", (0,), 1), lent("bb", (1,), 500)
    found = cheapest([old, young], NODE, 1, Line(victims=Victims.NEWEST))
    assert found is not None and found[1][0].lent.job.job == "bb"
