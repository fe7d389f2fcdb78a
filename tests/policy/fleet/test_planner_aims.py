"""The planner on public data: never dearer than Melange, and its plans pass their replay."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from meted.predict.batching import Arrival
from meted.testing.public_data import NoDataError, data_folder

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import planner

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def trace() -> Sequence[Arrival]:
    try:
        data_folder("planner")
        data_folder("azure")
    except NoDataError as missing:
        pytest.skip(str(missing))
    return planner.code_trace()


@pytest.mark.parametrize(("tpot_s", "rate"), planner.MELANGE)
def test_with_one_table_the_fleet_is_never_dearer_and_proven_cheapest(
    trace: Sequence[Arrival], tpot_s: float, rate: int
) -> None:
    row = planner.same_table(trace, tpot_s, rate)
    melange, lp_bound = planner.MELANGE[tpot_s, rate]
    assert row.dollars <= melange + 0.005
    assert row.status == "optimal"
    assert row.gap <= 0.01
    assert row.floor == pytest.approx(lp_bound, abs=0.011)


def test_a_replayed_fleet_is_cheaper_and_holds_its_tails_on_other_seeds(
    trace: Sequence[Arrival],
) -> None:
    row = planner.replayed(trace, 0.12, 16, ttft_s=3.0, seeds=(2, 3), own=False)
    assert row.dollars < 0.7 * row.melange
    assert row.bound <= row.dollars
    assert row.ttft_s <= 3.0
    assert row.tpot_ms <= 120
    assert row.held == row.seeds == 2
