"""A pool is what its words say: how many, in which nodes, at which price; what is not is named."""

from collections import Counter
from pathlib import Path

import pytest

from meted.live.scenario_file import PoolError, read_pool


def test_devices_kinds_and_prices_are_as_written() -> None:
    found = read_pool("8xV100@0.74,16xP100@0.43/0.40/0.05")
    pool = found.pool
    assert Counter(one.kind for one in pool.devices) == {"v100": 8, "p100": 16}
    assert pool.price_of("v100").nano_usd_per_device_hour == 740_000_000
    assert pool.price_of("v100").when_parked == 740_000_000
    price = pool.price_of("p100")
    assert (price.when_idle, price.when_parked) == (400_000_000, 50_000_000)
    assert not pool.shared
    assert found.told == ()


def test_nodes_are_counted_before_their_devices() -> None:
    nodes = Counter(one.node for one in read_pool("2x8xH100,3x1xV100@1").pool.devices)
    assert nodes == {0: 8, 1: 8, 2: 1, 3: 1, 4: 1}


def test_without_nodes_a_kind_lies_as_it_usually_does() -> None:
    assert len({one.node for one in read_pool("16xH100").pool.devices}) == 2
    assert len({one.node for one in read_pool("3xmine@1").pool.devices}) == 3


def test_indices_are_unique_and_nodes_hold_one_kind() -> None:
    devices = read_pool("8xV100@1,5xL4,2x4xT4").pool.devices
    assert [one.index for one in devices] == list(range(21))
    kinds: dict[int, set[str]] = {}
    for one in devices:
        kinds.setdefault(one.node, set()).add(one.kind)
    assert all(len(some) == 1 for some in kinds.values())


def test_a_known_kind_takes_the_dated_example_price() -> None:
    found = read_pool("4xL4,4xT4:spot")
    assert found.pool.price_of("l4").nano_usd_per_device_hour > 0
    assert any("l4" in one and "dated" in one for one in found.told)
    assert found.pool.spot == {"t4"}
    assert found.vanishing["t4"].per_device_hour > 0
    assert "l4" not in found.vanishing


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("V100", "says 'V100', expected devices such as"),
        ("8xV100@", "says '8xV100@'"),
        ("8xmine", "no price of mine, and none is known"),
        ("0xV100@1", "has 0 devices"),
        ("999999x9xV100@1", "has 8999991 devices"),
        ("1xV100@1,1xV100@2", "prices V100 twice"),
        ("1xV100@1.0000000001", "the price of v100 is '1.0000000001'"),
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
    ],
)
def test_a_pool_that_cannot_be_is_named(text: str, sentence: str) -> None:
    with pytest.raises(PoolError, match=sentence):
        read_pool(text)


FILE = """\
nodes:
  - {count: 2, devices: 4, kind: L4}
  - {kind: mine}
kinds:
  mine: {usd_per_device_hour: "0.50", idle: "0.50", parked: "0", spot: true,
         interruptions_per_device_hour: 0.1, back_minutes: 5}
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pool.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_says_the_same_and_more(tmp_path) -> None:
    found = read_pool(written(tmp_path, FILE))
    assert Counter(one.node for one in found.pool.devices) == {0: 4, 1: 4, 2: 1}
    assert found.pool.price_of("mine").when_parked == 0
    assert found.pool.spot == {"mine"}
    how = found.vanishing["mine"]
    assert (how.per_device_hour, how.back) == (0.1, 300_000_000)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("nodes:", "hosts:"), "has the key 'hosts', expected nodes, kinds"),
        (("count: 2", "number: 2"), "node 1 of .* has the key 'number'"),
        (("mine: {", "other: {"), "kinds names other, but no node has it"),
        (('"0.50", idle', "0.50, idle"), "usd_per_device_hour of mine of kinds"),
        (("spot: true", "spot: 3"), "spot of mine of kinds"),
        (("hour: 0.1", "hour: -1"), "interruptions_per_device_hour of mine"),
    ],
)
def test_a_wrong_key_or_value_of_a_file_is_named(
    tmp_path, change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(PoolError, match=sentence):
        read_pool(written(tmp_path, FILE.replace(*change)))
