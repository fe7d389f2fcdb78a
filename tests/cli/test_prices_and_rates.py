"""`meted prices`, `meted rates` and `meted books`: exact in, exact out, in the audit log."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from meted.live.home import Home
from meted.live.store import Batch
from meted.live.stores import open_store
from meted.testing.store_rows import TRAINING, interval, request_account, request_row

Run = Callable[..., Result]
EPOCH = "2023-11-14T00:00+00:00"
"""The rows' time begins on that day."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with closing(open_store(Home(tmp_path).books, house="here")) as store:
        for number in range(3):
            used = {TRAINING: 400_000_000, request_account(number): 100_000_000}
            row = request_row(number, 100_000_000)
            store.write(Batch(closed=(interval(number, used),), requests=(row,)))
        store.crashed()
    return tmp_path


def rows(run: Run, home: Path, *arguments: str) -> list[dict[str, object]]:
    return json.loads(run(*arguments, "--home", str(home), "--json").stdout)


def test_an_owned_device_has_the_price_that_follows_from_what_it_cost(run: Run, home: Path) -> None:
    said = run(
        *("prices", "set", "--home", str(home), "--owned", "--purchase", "438", "--lifetime"),
        *("5y", "--watts", "100", "--usd-per-kwh", "0.30", "--pue", "1.2"),
    )
    # 438 / 43,800 h = 0.01; 0.1 kW * 1.2 * 0.30 = 0.036.
    assert said.exit_code == 0, said.output
    assert "$0.046000000 per device-hour" in said.stdout
    (version,) = rows(run, home, "prices")
    assert version["usd_per_device_hour"] == "0.046000000"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--owned", "--usd-per-hour", "1"),
        ("--owned", "--purchase", "1"),
        ("--usd-per-hour", "1", "--pue", "1.2"),
        ("--usd-per-hour", "nan"),
        ("--usd-per-hour", "-1"),
        ("--usd-per-hour", "0.0000000001"),
        ("--owned", "--purchase", "1", "--lifetime", "0h", "--watts", "1", "--usd-per-kwh", "1"),
    ],
)
def test_prices_that_make_no_sense_are_usage_errors(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    assert run("prices", "set", "--home", str(home), *arguments).exit_code == 2


def test_a_past_price_changes_bills_once_it_is_re_rated(run: Run, home: Path) -> None:
    run("prices", "set", "--home", str(home), "--usd-per-hour", "0.04", "--from", EPOCH)
    assert "$0.000016666" in run("bill", "--home", str(home)).stdout
    rerate = ("prices", "rerate", "--home", str(home), "--from", EPOCH, "--reason", "an invoice")
    said = run(*rerate)
    assert "3 intervals re-rated" in said.stdout, said.output
    assert "+$0.000016667 in all" in said.stdout
    assert "$0.000033333" in run("bill", "--home", str(home)).stdout
    assert "nothing to correct" in run(*rerate).stdout
    assert run("bill", "--home", str(home), "--check").exit_code == 0
    entries = rows(run, home, "audit")
    assert [entry["action"] for entry in entries[:3]] == [
        "prices.rerate",
        "prices.rerate",
        "price.add",
    ]
    assert str(entries[0]["actor"]).startswith("cli:")


def test_a_card_charges_by_the_token(run: Run, home: Path) -> None:
    said = run(
        *("rates", "set", "--home", str(home), "--tenant", "acme", "--input", "0.15"),
        *("--cached", "0.03", "--output", "0.60", "--training", "3.60", "--from", EPOCH),
    )
    assert said.exit_code == 0, said.output
    (version,) = rows(run, home, "rates")
    assert version["rates"] == {
        "charge": "card",
        "input_usd_per_million": "0.150000",
        "cached_input_usd_per_million": "0.030000",
        "output_usd_per_million": "0.600000",
        "training_usd_per_device_second": "0.001000000",
    }
    run("rates", "rerate", "--home", str(home), "--from", EPOCH, "--reason", "as agreed")
    # 2 * 150 + 1 * 30 + 4 * 600 nano-USD a request.
    body = json.loads(run("bill", "--home", str(home), "--json").stdout)
    assert body["price_nano_usd"] == 3 * 2_730


def test_a_markup_is_exact_to_a_tenth_of_a_per_cent(run: Run, home: Path) -> None:
    run("rates", "set", "--home", str(home), "--by-cost", "--markup", "2.5%")
    run("rates", "set", "--home", str(home), "--tenant", "acme", "--by-cost", "--markup", "-10")
    run("rates", "set", "--home", str(home), "--tenant", "acme", "--none")
    assert [row["rates"] for row in rows(run, home, "rates")] == [
        {"charge": "cost", "markup_permille": 25},
        {"charge": "cost", "markup_permille": -100},
        None,
    ]
    assert "by cost +2.5 %" in run("rates", "--home", str(home)).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--by-cost", "--none"),
        ("--input", "1"),
        ("--by-cost", "--markup", "2.55%"),
        ("--by-cost", "--markup", "-101%"),
        ("--markup", "10%", "--none"),
        ("--by-cost", "--tenant", "a\u202eb"),
    ],
)
def test_rates_that_make_no_sense_are_usage_errors(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    assert run("rates", "set", "--home", str(home), *arguments).exit_code == 2


def test_old_hours_are_folded_and_the_bill_stays(run: Run, home: Path) -> None:
    before = run("bill", "--home", str(home)).stdout
    would = run("books", "compact", "--home", str(home), "--older-than", "30d", "--dry-run")
    assert "would fold 1 hours: 3 intervals, 9 lines" in would.stdout, would.output
    done = rows(run, home, "books", "compact", "--older-than", "30d")
    assert done == {
        "dry_run": False,
        "hours": 1,
        "intervals": 3,
        "lines": 9,
        "requests": 3,
        "charges": 0,
    }
    assert run("bill", "--home", str(home)).stdout == before
    assert run("bill", "--home", str(home), "--check").exit_code == 0
    assert (
        "nothing to fold"
        in run("books", "compact", "--home", str(home), "--older-than", "1d").stdout
    )


def test_younger_than_a_day_is_a_usage_error(run: Run, home: Path) -> None:
    said = run("books", "compact", "--home", str(home), "--older-than", "23h")
    assert said.exit_code == 2
    assert "charged again" in said.stderr
