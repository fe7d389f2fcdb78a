"""One real house, real model and real processes for the tests that only ask."""

from collections.abc import Iterator

import pytest

from meted.testing.house import RealHouse, shared_checkpoints

CONFIG = {
    "deployments": [
        {"name": "smollm2-135m", "checkpoint": "smollm2-135m"},
        {
            "name": "all-minilm-l6-v2",
            "checkpoint": "all-minilm-l6-v2",
            "settings": {"kept_answers": 100},
        },
    ],
    "books": {"interval_s": 1.0},
}


@pytest.fixture(scope="session")
def house() -> Iterator[RealHouse]:
    with RealHouse(config=CONFIG, cache=shared_checkpoints()) as running:
        yield running


@pytest.fixture
def own_house() -> Iterator[RealHouse]:
    """A house that a test may kill."""
    made = RealHouse(
        config={**CONFIG, "deployments": CONFIG["deployments"][:1]},
        cache=shared_checkpoints(),
    )
    yield made
    made.remove()
