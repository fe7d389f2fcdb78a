"""Free devices and what jobs return: the same node as a look at every node finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.allocation import JobDemand, JobOption, ReplicaOption, Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.policy.sharing.ground import Ground
from meted.policy.sharing.line import Line
from meted.policy.sharing.reclaim import cheapest
from meted.policy.sharing.rooms import Rooms


def snapshot(sizes: list[int], unavailable: frozenset[int] = frozenset()) -> Snapshot:
    """Nodes of so many devices each, numbered through, of kinds a and b in turn."""
    devices: list[Device] = []
    for node, size in enumerate(sizes):
        kind = "ab"[node % 2]
        devices += [Device(index=len(devices) + n, kind=kind, node=node) for n in range(size)]
    price = Price(nano_usd_per_device_hour=NanoUSD(1))
    pool = Pool(devices=tuple(devices), price=price, shared=False)
    return Snapshot(now=Micros(0), pool=pool, deployments=(), jobs=(), unavailable=unavailable)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 6)), max_size=30),
)
def test_the_fullest_and_the_emptiest_node_are_those_that_a_look_at_all_finds(
    sizes: list[int], steps: list[tuple[bool, int, int]]
) -> None:
    rooms = Rooms(snapshot(sizes, unavailable=frozenset({0})))
    taken: list[tuple[int, ...]] = []
    for back, which, count in steps:
        if back and taken:
            rooms.give(taken.pop(which % len(taken)))
        kind = "ab"[which % 2]
        free = [(rooms.count(node), node) for node in rooms.nodes(kind)]
        fits = [one for one in free if one[0] >= count]
        node = rooms.fullest(kind, count)
        assert node == (min(fits)[1] if fits else None)
        some = [(-room, name) for room, name in free if room]
        assert rooms.emptiest(kind) == (min(some)[1] if some else None)
        assert rooms.unused.get(kind, 0) == sum(room for room, _ in free)
        if node is not None:
            taken.append(rooms.lowest(node, count))
            assert rooms.take(taken[-1]) == {node}


def job(number: int, devices: int, restart_s: int) -> JobDemand:
    return JobDemand(
        job=JobName(f"j{number}"),
        order=number,
        remaining_steps=100,
        tokens_per_device_second=0.0,
        restart=Micros(restart_s * 1_000_000),
        options=tuple(
            JobOption(kind="a", devices=one, steps_per_second=float(one))
            for one in range(1, devices + 1)
        ),
    )


def option(devices: int) -> ReplicaOption:
    return ReplicaOption(kind="a", devices=devices, requests_per_second=1.0, load=Micros(0))


@pytest.mark.parametrize("seed", range(20))
def test_a_place_comes_from_the_node_where_jobs_lose_least_after_every_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = Line()
    ground = Ground(snapshot([4] * 11), line)
    count = 0
    while free := ground.free("a"):
        wide = min(free, int(rng.integers(1, 7)))
        ground.lend_new(job(count, wide, int(rng.integers(1, 100))), "a", wide)
        count += 1
    nodes = [("a", number) for number in range(0, 11, 2)]
    gone: set[int] = set()
    for _ in range(30):
        devices = int(rng.integers(1, 5))
        rest = ground.rest()
        free = {node: sum(("a", one // 4) == node for one in rest) for node in nodes}
        fits = [(room, node) for node, room in free.items() if room >= devices]
        costs: list[tuple[tuple[int, float], tuple[str, int]]] = []
        for node in nodes if not fits else ():
            here = [one for one in ground.lent.values() if node in one.on]
            found = cheapest(here, node, devices - free[node], line)
            costs += [] if found is None else [(found[0], node)]
        place = ground.get(option(devices))
        assert (place is None) == (not fits and not costs)
        if place is not None:
            assert ("a", place[0] // 4) == (min(fits)[1] if fits else min(costs)[1])
            assert len(place) == devices and gone.isdisjoint(place)
            gone.update(place)
        assert ground.lent_devices["a"] == sum(len(one.devices) for one in ground.lent.values())
        assert ground.lent_devices["a"] + ground.free("a") + len(gone) == 24
