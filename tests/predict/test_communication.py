"""Collectives: bandwidth terms of rings, delays of trees, and the price of leaving the node."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.device_kind import DeviceKind, Link
from meted.predict.communication import Wire, all_reduce, all_to_all, point_to_point

KIND = replace(
    DEVICE_KINDS["a100-80gb"],
    node_devices=8,
    link=Link(bytes_per_second=100e9, latency_micros=2.0),
    network=Link(bytes_per_second=10e9, latency_micros=8.0),
)


def test_an_all_reduce_in_a_node_moves_the_ring_optimum() -> None:
    wire = all_reduce(KIND, 8)
    assert wire.micros(1e9) == pytest.approx(2 * 7 / 8 * 1e9 / 100e9 * 1e6 + 3 * 2.0)


def test_an_all_reduce_over_two_nodes_sends_each_devices_part_over_the_network() -> None:
    wire = all_reduce(KIND, 16)
    inside = 2 * 7 / 8 * 1e9 / 100e9
    across = 2 * 1 / 2 * (1e9 / 8) / 10e9
    assert wire.micros(1e9) == pytest.approx((inside + across) * 1e6 + 3 * 2.0 + 8.0)


def test_one_device_says_nothing() -> None:
    assert all_reduce(KIND, 1).micros(1e9) == 0
    assert all_to_all(KIND, 1).micros(1e9) == 0


@pytest.mark.parametrize("collective", [all_reduce, all_to_all])
def test_leaving_the_node_is_dearer(collective: Callable[[DeviceKind, int], Wire]) -> None:
    costs = [collective(KIND, devices).micros(1e8) for devices in (2, 4, 8, 16)]
    assert costs == sorted(costs)
    assert costs[-1] > costs[-2] * 1.5


def test_a_message_to_a_neighbour_crosses_one_link() -> None:
    assert point_to_point(KIND, inside_node=True).micros(1e8) == pytest.approx(1e3 + 2)
    assert point_to_point(KIND, inside_node=False).micros(1e8) == pytest.approx(1e4 + 8)
