"""Verbs against a real house, and what they say when there is none."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from meted.cli.common import NO_HOUSE, REFUSED
from meted.live.home import find_home
from meted.testing.house import RealHouse

Run = Callable[..., Result]


def test_status_shows_the_house_its_deployment_and_its_price(ask: Run) -> None:
    shown = ask("status")
    assert shown.exit_code == 0
    for words in ("$0.02 per device-hour", "words-1 ready", "policy   demand"):
        assert words in shown.stdout
    body = json.loads(ask("status", "--json").stdout)
    assert body["deployments"][0]["replicas"][0]["status"] == "ready"


def test_request_is_billed_to_its_tenant_by_name(ask: Run, house: RealHouse) -> None:
    request = urllib.request.Request(
        f"{house.url}/v1/completions",
        data=json.dumps({"model": "words", "prompt": "one two three"}).encode(),
        headers={"Authorization": f"Bearer {house.key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        request_id = reply.headers["x-meted-request-id"]
    row = house.wait_for_bill_row("request", request_id)
    assert row["device_nanos"] > 0
    both = json.loads(ask("bill", "--by", "tenant", "--by", "kind", "--json").stdout)
    assert any((one["tenant"], one["kind"]) == ("acme", "request") for one in both["rows"])
    assert sum(one["nano_usd"] for one in both["rows"]) == both["nano_usd"]


def test_books_of_a_running_house_balance(ask: Run) -> None:
    checked = ask("bill", "--check", "--json")
    assert checked.exit_code == 0
    report = json.loads(checked.stdout)
    assert report["balanced"]
    assert report["lines_nano_usd"] == report["capacity_nano_usd"]


def test_key_works_until_it_is_revoked(ask: Run, house: RealHouse) -> None:
    made = json.loads(ask("keys", "create", "--tenant", "umbrella", "--json").stdout)

    def refused() -> bool:
        request = urllib.request.Request(
            f"{house.url}/v1/models", headers={"Authorization": f"Bearer {made['secret']}"}
        )
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            assert error.code == 401
            error.close()
            return True
        return False

    assert not refused()
    assert ask("keys", "revoke", made["id"]).exit_code == 0
    house.wait_until("the revoked key is refused", refused, patience_s=10)
    assert made["secret"] not in ask("keys", "list", "--json").stdout


def test_refusals_are_the_houses_own_sentences(ask: Run) -> None:
    for arguments, words in (
        (("jobs", "nobody"), "no job is named 'nobody'"),
        (("undeploy", "nobody"), "nobody"),
        (("train", "--model", "nobody", "--data", ".", "--name", "a"), "no checkpoint 'nobody'"),
    ):
        said = ask(*arguments)
        assert said.exit_code == 1
        assert words in said.stderr
    assert json.loads(ask("jobs", "--json").stdout) == []
    assert "no jobs yet" in ask("jobs").stdout
    assert ask("models", "--json").exit_code == 0


def test_wrong_admin_key_is_refused_with_its_own_exit_code(ask: Run, house: RealHouse) -> None:
    path = house.home / "admin.key"
    secret = path.read_text()
    path.write_text("mt-wrong\n")
    try:
        said = ask("status")
    finally:
        path.write_text(secret)
    assert said.exit_code == REFUSED


def test_down_ends_the_house_and_then_there_is_none(run: Run, own_house: RealHouse) -> None:
    own_house.start()
    environment = {"METED_HOME": str(own_house.home)}
    assert own_house.process is not None
    down = run("down", "--json", env=environment)
    assert json.loads(down.stdout) == {"stopped": True, "pid": own_house.process.pid}
    assert own_house.process.wait(timeout=10) == 0
    assert run("down", env=environment).exit_code == NO_HOUSE
    assert run("bill", "--check", env=environment).exit_code == 0


def test_house_that_is_still_starting_is_not_taken_for_none(run: Run, tmp_path: Path) -> None:
    home = find_home(tmp_path)
    home.prepare()
    with home.lock():
        for verb in ("status", "down"):
            said = run(verb, "--home", str(tmp_path))
            assert said.exit_code == NO_HOUSE
            assert "still starting" in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("down",),
        ("deploy", "a"),
        ("undeploy", "a"),
        ("jobs",),
        ("jobs", "a"),
        ("jobs", "pause", "a"),
        ("train", "--model", "a", "--data", ".", "--name", "b", "--detach"),
    ],
)
def test_without_a_house_the_exit_code_says_so(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = run(*arguments, env={"METED_HOME": str(tmp_path / "home")})
    assert said.exit_code == NO_HOUSE
    assert "no house runs" in said.stderr
    assert not (tmp_path / "home").exists()
