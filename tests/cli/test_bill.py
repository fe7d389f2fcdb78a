"""`meted bill` on stored books: exact money, time limits, formats and exit codes."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result

from meted.cli.render import decimal, dollars
from meted.live.store import Batch
from meted.live.stores import open_store
from meted.testing.store_rows import (
    START,
    TRAINING,
    UNSAVED,
    interval,
    request_account,
    request_row,
)

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = open_store(tmp_path / "books.sqlite", house="here")
    for number in range(3):
        used = {TRAINING: 400_000_000, request_account(number): 100_000_000}
        store.write(
            Batch(closed=(interval(number, used),), requests=(request_row(number, 100_000_000),))
        )
    store.close()
    return tmp_path


def moment(second: int) -> str:
    return datetime.fromtimestamp(START / 1e6 + second, UTC).isoformat()


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (123_456, "$0.000123456"),
        (0, "$0.000000000"),
        (-1, "-$0.000000001"),
        (12_345_678_901_234_567_891, "$12345678901.234567891"),
    ],
)
def test_money_is_printed_exactly(nano: int, text: str) -> None:
    assert dollars(nano) == text
    assert decimal(nano) == text.replace("$", "")


def test_table_is_plain_and_its_rows_sum_to_the_total(run: Run, home: Path) -> None:
    shown = run("bill", "--home", str(home))
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == ["KIND", "DEVICE-SECONDS", "COST", "PRICE"]
    assert lines[1:4] == [
        ["idle", "1.500000000", "$0.000008335", "$0.000000000"],
        ["training", "1.200000000", "$0.000006666", "$0.000000000"],
        ["request", "0.300000000", "$0.000001665", "$0.000001665"],
    ]
    assert lines[4] == ["total", "3.000000000", "$0.000016666", "$0.000001665"]
    assert "3 intervals" in shown.stdout


def test_json_has_integers_and_exact_strings(run: Run, home: Path) -> None:
    body = json.loads(run("bill", "--home", str(home), "--by", "job", "--json").stdout)
    assert body["device_seconds"] == "3.000000000"
    (row,) = [row for row in body["rows"] if row["job"] == "night-shift"]
    assert row["device_nanos"] == 1_200_000_000
    assert row["usd"] == decimal(row["nano_usd"])


def test_csv_has_all_rows_and_can_be_summed(run: Run, home: Path) -> None:
    said = run("bill", "--home", str(home), "--by", "request", "--by", "kind", "--csv")
    rows = list(csv.DictReader(io.StringIO(said.stdout)))
    assert {row["request"] for row in rows} >= {"request-0", "request-1", "request-2", ""}
    assert sum(int(row["nano_usd"]) for row in rows) == 16_666


def test_limit_says_how_many_rows_it_leaves_out(run: Run, home: Path) -> None:
    shown = run("bill", "--home", str(home), "--by", "request", "--limit", "1").stdout
    assert "3 more rows" in shown
    assert "$0.000016666" in shown


def test_time_limits_take_moments_and_how_long_ago(run: Run, home: Path) -> None:
    part = run("bill", "--home", str(home), "--from", moment(1), "--to", moment(2), "--json")
    assert json.loads(part.stdout)["intervals"] == 1
    recent = run("bill", "--home", str(home), "--from", "1h")
    assert "no closed interval" in recent.stdout
    wrong = run("bill", "--home", str(home), "--from", "yesterday")
    assert wrong.exit_code == 2
    assert "1h" in wrong.stderr


def test_check_prints_the_sums_and_fails_with_the_first_fault(run: Run, home: Path) -> None:
    good = run("bill", "--home", str(home), "--check")
    assert good.exit_code == 0
    assert good.stdout.count("3.000000000") == 2
    assert good.stdout.count("$0.000016666") == 2
    connection = sqlite3.connect(home / "books.sqlite", isolation_level=None)
    connection.execute("DROP TRIGGER lines_no_update")
    connection.execute("UPDATE lines SET amount = amount + 1 WHERE number = 1 AND request IS NULL")
    connection.close()
    bad = run("bill", "--home", str(home), "--check")
    assert bad.exit_code == 1
    assert "interval 1 of session s1" in bad.stdout


def test_check_prints_every_law_and_how_often_it_was_tested(run: Run, home: Path) -> None:
    lines = run("bill", "--home", str(home), "--check").stdout.splitlines()
    assert "ok         3  an interval's lines sum to its devices x time" in lines
    body = json.loads(run("bill", "--home", str(home), "--check", "--json").stdout)
    assert body["balanced"] is True
    assert all(law["fault"] is None for law in body["laws"])


def test_shared_cost_is_shown_beside_what_is_direct(run: Run, home: Path) -> None:
    said = run("bill", "--home", str(home), "--by", "tenant", "--shared", "even")
    lines = [line.split() for line in said.stdout.splitlines()]
    # The tenant bears all idle cost, which the house gives away; the total stays what it was.
    assert lines[1] == ["-", *lines[1][1:4], "-" + lines[2][4]]
    assert lines[2][4] == "$0.000008335"
    assert "direct $0.000008331 + shared $0.000008335 + unallocated $0.000000000" in said.stdout


def test_tenant_sees_nothing_of_the_house(run: Run, home: Path) -> None:
    said = run("bill", "--home", str(home), "--by", "kind", "--tenant", "acme")
    assert "idle" not in said.stdout
    assert "$0.000008331" in said.stdout


def test_training_that_is_not_charged_yet_is_told(run: Run, home: Path) -> None:
    assert "not charged" not in run("bill", "--home", str(home)).stdout
    store = open_store(home / "books.sqlite", house="here")
    store.write(Batch(closed=(interval(3, {UNSAVED: 250_000_000}),)))
    store.close()
    for more in ((), ("--tenant", "acme")):
        said = run("bill", "--home", str(home), *more).stdout
        assert "0.250000000 device-seconds of training since the last checkpoint are not ch" in said
    body = json.loads(run("bill", "--home", str(home), "--json").stdout)
    assert body["uncharged_device_nanos"] == 250_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("--by", "colour"),
        ("--by", "kind", "--by", "kind"),
        ("--by", "kind", "--by", "job", "--by", "tenant"),
        ("--csv", "--json"),
        ("--check", "--by", "kind"),
        ("--tenant", "acme", "--shared", "even"),
        ("--shared", "by-reservation"),
        ("--shared", "even", "--reserve", "acme=1"),
        ("--shared", "by-reservation", "--reserve", "acme"),
    ],
)
def test_questions_that_make_no_sense_are_usage_errors(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    assert run("bill", "--home", str(home), *arguments).exit_code == 2


def test_no_books_yet_is_a_failure_that_says_what_to_do(run: Run, tmp_path: Path) -> None:
    said = run("bill", "--home", str(tmp_path / "none"))
    assert said.exit_code == 1
    assert "meted up" in said.stderr
