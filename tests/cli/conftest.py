"""A real house with an engine without weights, and a way to call verbs against it."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from meted.cli.main import main
from meted.testing.house import RealHouse

CONFIG = {
    "deployments": [{"name": "words", "engine": "meted.testing.fake_engine:FakeEngine"}],
    "books": {"interval_s": 0.2, "flush_ms": 20},
}

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Calls `meted` in this process."""
    return lambda *arguments, **options: CliRunner().invoke(main, arguments, **options)


@pytest.fixture(scope="session")
def house() -> Iterator[RealHouse]:
    with RealHouse(config=CONFIG) as running:
        yield running


@pytest.fixture
def own_house() -> Iterator[RealHouse]:
    """A house that a test may end."""
    made = RealHouse(config=CONFIG)
    yield made
    made.remove()


@pytest.fixture
def ask(house: RealHouse, run: Run) -> Run:
    """Calls `meted` for the running house."""
    return lambda *arguments: run(*arguments, env={"METED_HOME": str(house.home)})
