"""Keys, budgets and the audit log straight in the books, without a house."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from meted.live.home import find_home
from meted.live.stores import open_store

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


def test_an_empty_audit_log_says_so(ask: Ask) -> None:
    assert "nothing was changed yet" in ask("audit").stdout
