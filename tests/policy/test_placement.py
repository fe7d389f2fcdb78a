"""Placement: each device once, kept where it was, on as few nodes as can be."""

from hypothesis import given
from hypothesis import strategies as st

from meted.domain.allocation import Snapshot
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import Micros, NanoUSD
from meted.policy.placement import Placer


def snapshot(nodes: list[tuple[str, int]], unavailable: frozenset[int] = frozenset()) -> Snapshot:
    """Nodes of a kind with so many devices each, numbered through."""
    devices: list[Device] = []
    for number, (kind, count) in enumerate(nodes):
        devices += [Device(index=len(devices) + i, kind=kind, node=number) for i in range(count)]
    return Snapshot(
        now=Micros(0),
        pool=Pool(
            devices=tuple(devices),
            price=Price(nano_usd_per_device_hour=NanoUSD(1)),
            shared=False,
        ),
        deployments=(),
        jobs=(),
        unavailable=unavailable,
    )


def test_the_fullest_node_that_fits_is_taken_first() -> None:
    placer = Placer(snapshot([("a", 4), ("a", 4)]))
    assert placer.keep((4, 5))
    assert placer.take("a", 2) == (6, 7)
    assert placer.take("a", 3) == (0, 1, 2)


def test_what_does_not_fit_on_one_node_is_spread_only_if_that_is_allowed() -> None:
    placer = Placer(snapshot([("a", 2), ("a", 3), ("b", 9)]))
    assert placer.take("a", 4, one_node=True) is None
    assert placer.take("a", 4) == (0, 2, 3, 4)
    assert placer.free("a") == 1
    assert placer.take("a", 2) is None
    assert placer.rest() == (1, *range(5, 14))


def test_what_is_lost_or_taken_cannot_be_kept() -> None:
    placer = Placer(snapshot([("a", 3)], unavailable=frozenset({1})))
    assert not placer.keep((0, 1))
    assert placer.free("a") == 2
    assert placer.keep((0,)) and not placer.keep((0, 2))
    assert placer.kind((2,)) == "a" and placer.kind((1,)) is None


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=12),
)
def test_no_device_is_handed_out_twice(nodes: list[int], wishes: list[tuple[int, bool]]) -> None:
    placer = Placer(snapshot([("a", count) for count in nodes]))
    seen: set[int] = set()
    for count, one_node in wishes:
        free = placer.free("a")
        taken = placer.take("a", count, one_node=one_node)
        if taken is None:
            assert count < 1 or count > free or one_node
            continue
        assert len(taken) == count and seen.isdisjoint(taken)
        seen.update(taken)
    assert len(placer.rest()) == placer.free("a") == sum(nodes) - len(seen)
