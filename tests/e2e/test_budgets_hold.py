"""Real houses on shared books, killed at random: no budget is overrun, no told charge is lost.

Small versions of benchmarks/overspend.py and benchmarks/crash.py, which say how they measure.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from crash import measure
from houses import FakeModel, plans
from overspend import LEAVING_PERMILLE, measure_houses

pytestmark = pytest.mark.e2e
CLIENTS = 150
SEED = 7


def test_no_client_crowd_and_no_kill_overruns_a_budget() -> None:
    model = FakeModel(decode_us=8_000)
    result = measure_houses(
        "sqlite", None, "scarce", clients=CLIENTS, seed=SEED, model=model, count=2
    )
    assert result.overshoot == 0
    assert result.missing == 0
    assert result.check == "ok"
    assert result.polls > 10
    assert result.answered + result.left >= CLIENTS // 10
    assert result.given_up == 0
    dearest = max(
        plan.worst for plan in plans(CLIENTS, seed=SEED, leaving_permille=LEAVING_PERMILLE)
    )
    assert 0 <= result.budget - result.charged < dearest, "what is left would buy nobody's request"


def test_what_a_client_was_told_outlives_every_kill_once() -> None:
    for tally in measure("sqlite", {"house": 1, "replica": 1}, seed=SEED):
        assert tally.rounds == 1
        assert tally.acknowledged > 0
        assert not tally.bad, tally
