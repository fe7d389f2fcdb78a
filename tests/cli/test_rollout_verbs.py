"""`meted rollout` and `meted savings` against a real house with an engine without weights."""

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result

from meted.testing.house import RealHouse

Run = Callable[..., Result]
ENGINE = "meted.testing.fake_engine:FakeEngine"
CONFIG = {
    "deployments": [{"name": "words", "engine": ENGINE}],
    "books": {"interval_s": 0.2, "flush_ms": 20},
}
START = (
    *("rollout", "start", "words", "--max-batch", "4", "--predicted", "0.1"),
    *("--block", "0.6", "--washout", "0.1", "--canary", "0.4", "--blocks", "6"),
)


class Traffic:
    """Clients that ask one after the other, and what they were refused."""

    def __init__(self, house: RealHouse) -> None:
        self._house = house
        self._over = threading.Event()
        self.answers: list[int] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        body = {"model": "words", "prompt": "some words to go on with", "max_tokens": 8}
        while not self._over.wait(0.02):
            request = urllib.request.Request(
                f"{self._house.url}/v1/completions",
                data=json.dumps(body).encode(),
                headers={
                    "authorization": f"Bearer {self._house.key}",
                    "content-type": "application/json",
                },
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    answer = json.loads(reply.read())
                    assert answer["model"] == "words"
                    self.answers.append(reply.status)
            except Exception as error:  # what a client would see, whatever it is
                self.errors.append(repr(error))


@pytest.fixture(scope="module")
def lever_house() -> Iterator[RealHouse]:
    with RealHouse(config=CONFIG) as running:
        yield running


@pytest.fixture
def ask(lever_house: RealHouse, run: Run) -> Run:
    return lambda *arguments: run(*arguments, env={"METED_HOME": str(lever_house.home)})


def test_before_the_first_rollout_there_is_nothing(ask: Run) -> None:
    assert "no rollouts yet" in ask("rollout", "list").output
    assert "no receipts yet" in ask("savings").output
    assert json.loads(ask("savings", "--json").output)["total_nano_usd"]["high"] == 0
    missing = ask("rollout", "show", "words")
    assert missing.exit_code == 1
    assert "no rollout of 'words'" in missing.output
    unknown = ask(*START[:3], "--predicted", "0.1", "--checkpoint", "other")
    assert unknown.exit_code == 1


@pytest.mark.parametrize(
    ("option", "value"), [("--blocks", "4"), ("--predicted", "2"), ("--settings", "chunk=3")]
)
def test_a_wrong_option_is_a_usage_error(ask: Run, option: str, value: str) -> None:
    assert ask(*START, option, value).exit_code == 2


def test_a_rollout_from_start_to_end_and_its_receipt(
    lever_house: RealHouse, ask: Run, run: Run
) -> None:
    with Traffic(lever_house) as traffic:
        started = ask(*START, "--json")
        assert started.exit_code == 0, started.output
        assert json.loads(started.output)["id"] == "words~2"
        again = ask(*START)
        assert again.exit_code == 1
        assert "runs; wait for it" in again.output
        models = lever_house.admin("deployments")
        assert [one["name"] for one in models] == ["words"]
        followed = ask("rollout", "show", "words", "--watch")
        # An engine without weights costs what it costs: no saving is promised either way.
        promoted = followed.exit_code == 0
        assert "blocks     6 of 6 at most" in followed.output, followed.output
        assert re.search(r"comparing, block [1-5] of 6", followed.output)
    assert traffic.errors == []
    assert len(traffic.answers) > 50
    table = ask("rollout", "list").output
    assert ("promoted" if promoted else "returned") in table
    receipts = ask("savings").output
    assert "words~2" in receipts
    assert "verified savings: $" in receipts
    checked = ask("bill", "--check")
    assert checked.exit_code == 0, checked.output


def test_a_house_that_is_killed_goes_on_and_stop_returns_at_once(
    lever_house: RealHouse, ask: Run
) -> None:
    started = ask(*START, "--blocks", "200", "--json")
    assert started.exit_code == 0, started.output
    name = json.loads(started.output)["id"]
    with Traffic(lever_house):
        lever_house.wait_until(
            "a block is done", lambda: lever_house.admin(f"rollouts/{name}")["blocks_done"] > 0
        )
    done = lever_house.admin(f"rollouts/{name}")["blocks_done"]
    lever_house.kill()
    lever_house.start()
    found = lever_house.admin(f"rollouts/{name}")
    assert found["phase"] == "comparing"
    assert found["blocks_done"] >= done - 1
    assert found["void"] >= 1
    with Traffic(lever_house) as traffic:
        lever_house.wait_until(
            "it goes on",
            lambda: lever_house.admin(f"rollouts/{name}")["blocks_done"] > found["blocks_done"],
        )
        stopped = ask("rollout", "stop", "words")
        assert stopped.exit_code == 0, stopped.output
        assert f"{name} drains" in stopped.output
        lever_house.wait_until(
            "the candidate is gone",
            lambda: name not in {one["name"] for one in lever_house.admin("status")["deployments"]},
        )
        time.sleep(0.2)
    assert traffic.errors == []
    assert lever_house.admin(f"rollouts/{name}")["status"] == "rolled_back"
    assert ask("bill", "--check").exit_code == 0


def test_a_rollout_without_requests_waits_and_says_so(lever_house: RealHouse, ask: Run) -> None:
    started = ask(*START, "--json")
    assert started.exit_code == 0, started.output
    name = json.loads(started.output)["id"]
    # More turns than may come to nothing.
    lever_house.wait_until(
        "ten turns have passed", lambda: lever_house.admin(f"rollouts/{name}")["quiet"] >= 10
    )
    shown = ask("rollout", "show", "words").output
    assert re.search(r"phase +canary, words\S* serves, waiting for requests: none came in", shown)
    assert "void       0 turns" in shown
    assert ask("rollout", "stop", "words").exit_code == 0
