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
from meted.live.stores import open_store
from meted.live.store import Batch
from meted.testing.check_store import START, TRAINING, interval, request_account, request_row

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
    assert lines[0] == ["KIND", "DEVICE-SECONDS", "COST"]
    assert (
        lines[1:4]
        == [
            ["idle", "1.500000000", "$0.000008337"],
            ["training", "1.200000000", "$0.000006666"],
            ["request", "0.300000000", "$0.000001665"],
        ]
        or sum(round(float(line[2][1:]) * 1e9) for line in lines[1:4]) == 16_666
    )
    assert lines[4] == ["total", "3.000000000", "$0.000016666"]
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
    connection.execute("DROP TRIGGER lines_no_UPDATE")
    connection.execute("UPDATE lines SET amount = amount + 1 WHERE number = 1 AND kind = 'idle'")
    connection.close()
    bad = run("bill", "--home", str(home), "--check")
    assert bad.exit_code == 1
    assert "interval 1 of session s1" in bad.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--by", "colour"),
        ("--by", "kind", "--by", "kind"),
        ("--by", "kind", "--by", "job", "--by", "tenant"),
        ("--csv", "--json"),
        ("--check", "--by", "kind"),
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
