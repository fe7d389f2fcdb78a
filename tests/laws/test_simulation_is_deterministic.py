"""Equal scenarios give equal bytes, in another process with other hashes too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SIM_TESTS = Path(__file__).parent.parent / "sim"
PROGRAM = """
import hashlib
from mixed_scenarios import make_mixed
from meted.sim.world import simulate
for seed in range(8):
    result = simulate(make_mixed(seed))
    print(len(result.segments), hashlib.sha256(repr(result).encode()).hexdigest())
"""


def run(hash_seed: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SIM_TESTS)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def first() -> str:
    return run("0")


def test_equal_scenarios_give_equal_bytes(first: str) -> None:
    assert run("0") == first


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_order_of_hashes_changes_nothing(first: str, hash_seed: str) -> None:
    assert run(hash_seed) == first


def test_another_seed_is_another_scenario(first: str) -> None:
    lines = first.splitlines()
    assert len(set(lines)) == len(lines) == 8
