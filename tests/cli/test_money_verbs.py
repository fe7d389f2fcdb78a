"""Keys, budgets and the audit log straight in the books, without a house."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from meted.live.home import find_home
from meted.live.stores import open_store
from meted.testing.house import RealHouse

Ask = Callable[..., Result]


@pytest.fixture
def ask(run, tmp_path: Path) -> Ask:
    """Calls a verb for a home in which no house runs."""
    return lambda *arguments: run(*arguments, env={"METED_HOME": str(tmp_path / "home")})


def shown(said: Result):
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


def find(tmp_path: Path, secret: str):
    home = find_home(tmp_path / "home")
    store = open_store(home.books, house=home.house_id())
    try:
        return store.find_key(secret)
    finally:
        store.close()


LIMITS = ("--requests-per-minute", "60", "--tokens-per-minute", "9000", "--concurrent", "4")


def test_a_key_has_its_project_and_its_limits(ask: Ask, tmp_path: Path) -> None:
    made = shown(ask("keys", "create", "--tenant", "acme", "--project", "chat", *LIMITS, "--json"))
    key = find(tmp_path, made["secret"])
    assert key is not None
    assert (key.tenant, key.project, key.admin) == ("acme", "chat", False)
    assert (key.limits.requests_per_minute, key.limits.concurrent) == (60, 4)
    listed = ask("keys")
    assert "60 requests/min, 9000 tokens/min, 4 at once" in listed.stdout
    assert made["secret"] not in listed.stdout


def test_rotation_ends_the_old_secret_and_revocation_the_key(ask: Ask, tmp_path: Path) -> None:
    made = shown(ask("keys", "create", "--tenant", "acme", "--json"))
    rotated = shown(ask("keys", "rotate", made["id"], "--json"))
    assert rotated["id"] == made["id"]
    assert rotated["secret"] != made["secret"]
    assert find(tmp_path, made["secret"]) is None
    key = find(tmp_path, rotated["secret"])
    assert key is not None
    assert not key.revoked
    assert ask("keys", "revoke", made["id"]).exit_code == 0
    revoked = find(tmp_path, rotated["secret"])
    assert revoked is None or revoked.revoked
    again = ask("keys", "rotate", made["id"])
    assert again.exit_code == 1
    assert made["id"] in again.stderr
    assert "nothing: revoked" in ask("keys", "list").stdout


def test_a_secret_is_printed_alone_so_that_a_script_can_read_it(ask: Ask) -> None:
    said = ask("keys", "create", "--tenant", "acme")
    assert said.stdout.strip().startswith("mt-")
    assert len(said.stdout.split()) == 1
    assert "shown only now" in said.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--tenant", " "),
        ("keys", "create", "--tenant", "a\u200bcme"),
        ("keys", "create", "--tenant", "acme\r\nx-evil: 1"),
        ("keys", "create", "--tenant", "acme", "--concurrent", "0"),
        ("budgets", "set", "a/b", "--tenant", "acme", "--limit", "1"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "-1"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "NaN"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "1e400"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "0.0000000001"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "1", "--alert", "0"),
        ("budgets", "set", "a", "--tenant", "acme", "--limit", "1", "--period", "week"),
        ("budgets", "set", "a", "--limit", "1"),
        ("audit", "--limit", "0"),
    ],
)
def test_what_cannot_be_is_a_usage_error_and_changes_nothing(
    ask: Ask, arguments: tuple[str, ...]
) -> None:
    assert ask(*arguments).exit_code == 2
    assert shown(ask("audit", "--json")) == []


def test_budgets_are_made_changed_shown_and_removed(ask: Ask) -> None:
    made = shown(
        ask(
            *("budgets", "set", "trial", "--tenant", "acme", "--project", "chat"),
            *("--deployment", "words", "--period", "total", "--limit", "0.000000001", "--soft"),
            *("--alert", "80", "--json"),
        )
    )
    assert (made["limit_nano_usd"], made["hard"], made["alerts"]) == (1, False, [80])
    (row,) = shown(ask("budgets", "--json"))
    assert (row["spent_nano_usd"], row["left_usd"]) == (0, "0.000000001")
    assert row["resets_us"] is None
    changed = ask(
        *("budgets", "set", "trial", "--tenant", "acme", "--project", "chat"),
        *("--deployment", "words", "--period", "total", "--limit", "12.5"),
    )
    assert changed.exit_code == 0
    assert "hard, $12.50 in all, tenant acme, project chat, deployment words" in changed.stdout
    moved = ask("budgets", "set", "trial", "--tenant", "other", "--period", "total", "--limit", "1")
    assert moved.exit_code == 1
    assert "trial" in moved.stderr
    assert "$12.50" in ask("budgets", "list").stdout
    assert ask("budgets", "remove", "trial").exit_code == 0
    assert ask("budgets", "remove", "trial").exit_code == 1
    assert "no budgets yet" in ask("budgets").stdout


def test_every_change_is_in_the_audit_log_once_and_no_secret(ask: Ask) -> None:
    first = shown(ask("keys", "create", "--tenant", "acme", "--json"))
    second = shown(ask("keys", "rotate", first["id"], "--json"))
    ask("keys", "revoke", first["id"])
    ask("budgets", "set", "b", "--tenant", "acme", "--limit", "1")
    ask("budgets", "remove", "b")
    ask("budgets", "remove", "b")
    ask("keys", "revoke", "key-unknown")
    entries = shown(ask("audit", "--json"))
    assert [entry["action"] for entry in entries] == [
        *("budget.remove", "budget.save", "key.revoke", "key.rotate", "key.create"),
    ]
    assert all(entry["actor"].startswith("cli:") for entry in entries)
    assert [entry["subject"] for entry in entries] == ["b", "b", *[first["id"]] * 3]
    text = ask("audit", "--json").stdout + ask("audit").stdout
    for secret in (first["secret"], second["secret"]):
        assert secret not in text
        assert secret[:7] not in text
    assert len(shown(ask("audit", "--limit", "2", "--json"))) == 2


def test_books_elsewhere_are_changed_where_they_are(ask: Ask, tmp_path: Path) -> None:
    home = find_home(tmp_path / "home")
    home.prepare()
    home.use_store(str(tmp_path / "elsewhere.sqlite"))
    made = shown(ask("keys", "create", "--tenant", "acme", "--json"))
    assert not home.books.exists()
    store = open_store(tmp_path / "elsewhere.sqlite", house=home.house_id())
    try:
        assert store.find_key(made["secret"]) is not None
    finally:
        store.close()


def test_an_empty_audit_log_says_so(ask: Ask) -> None:
    assert "nothing was changed yet" in ask("audit").stdout


# With a house that runs.


def answer(url: str, secret: str, path: str = "/v1/models", body: dict | None = None):
    request = urllib.request.Request(
        f"{url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {secret}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read()), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


@pytest.fixture
def at_house(house: RealHouse, run) -> Ask:
    return lambda *arguments: run(*arguments, env={"METED_HOME": str(house.home)})


def test_a_running_house_obeys_rotation_and_revocation_at_once(
    at_house: Ask, house: RealHouse
) -> None:
    made = shown(at_house("keys", "create", "--tenant", "hooli", "--json"))
    assert answer(house.url, made["secret"])[0] == 200
    rotated = shown(at_house("keys", "rotate", made["id"], "--json"))
    assert answer(house.url, made["secret"])[0] == 401
    assert answer(house.url, rotated["secret"])[0] == 200
    assert at_house("keys", "revoke", made["id"]).exit_code == 0
    assert answer(house.url, rotated["secret"])[0] == 401


def test_a_running_house_obeys_a_budget_and_limits_at_once(at_house: Ask, house: RealHouse) -> None:
    ask = {"model": "words", "prompt": "one two three", "max_tokens": 4}
    made = shown(
        at_house("keys", "create", "--tenant", "initech", "--requests-per-minute", "50", "--json")
    )
    status, body, headers = answer(house.url, made["secret"], "/v1/completions", ask)
    assert status == 200
    assert headers["x-ratelimit-remaining-requests"] == "49"
    assert headers["x-meted-price-usd"] == body["usage"]["meted_price_usd"]
    assert (
        at_house("budgets", "set", "nothing", "--tenant", "initech", "--limit", "0").exit_code == 0
    )
    status, body, headers = answer(house.url, made["secret"], "/v1/completions", ask)
    assert (status, headers["x-meted-budget"]) == (402, "nothing")
    assert body["error"]["limit_usd"] == "0.000000000"
    own = answer(house.url, made["secret"], "/meted/v1/budgets")[1]
    assert [row["name"] for row in own] == ["nothing"]
    assert [row["tenant"] for row in answer(house.url, made["secret"], "/meted/v1/keys")[1]] == [
        "initech"
    ]
    assert "nothing" in at_house("budgets").stdout
    assert at_house("budgets", "remove", "nothing").exit_code == 0
    assert answer(house.url, made["secret"], "/v1/completions", ask)[0] == 200


def test_what_admins_do_at_the_doors_is_in_the_log_of_the_cli(
    at_house: Ask, house: RealHouse
) -> None:
    house.admin("budgets/logged", "PUT", {"tenant": "x", "period": "day", "limit_usd": "1"})
    house.admin("budgets/logged", "DELETE")
    entries = [one for one in shown(at_house("audit", "--json")) if one["subject"] == "logged"]
    assert [entry["action"] for entry in entries] == ["budget.remove", "budget.save"]
    assert all(entry["actor"].startswith("key-") for entry in entries)


def test_no_secret_is_in_the_houses_log(at_house: Ask, house: RealHouse) -> None:
    made = shown(at_house("keys", "create", "--tenant", "secretive", "--json"))
    for secret in (made["secret"], made["secret"][:-1], house.key):
        for path in ("/v1/models", "/meted/v1/status", "/v1/nothing"):
            answer(house.url, secret, path)
        answer(house.url, secret, "/v1/completions", {"model": secret, "prompt": "x"})
    admin = (house.home / "admin.key").read_text().strip()
    log = (house.home / "up.log").read_text()
    for file in (house.home / "logs").rglob("*.log"):
        log += file.read_text(errors="replace")
    for secret in (made["secret"], house.key):
        assert secret not in log
    # The house prints its page's address, with the admin's key in the fragment, to its own user.
    assert log.count(admin) <= 1


def test_the_last_thing_in_the_log_is_who_ended_the_house(own_house: RealHouse, run) -> None:
    own_house.start()
    environment = {"METED_HOME": str(own_house.home)}
    assert run("down", env=environment).exit_code == 0
    assert [one["action"] for one in shown(run("audit", "--json", env=environment))] == [
        *("shutdown", "key.create"),
    ]
