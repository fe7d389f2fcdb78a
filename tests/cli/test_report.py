"""`meted report`: one page with everything in it, every name escaped, a tenant's page its own."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, DeploymentName, Micros, NanoUSD, ProjectName, TenantName
from meted.ledger.windows import window_of
from meted.live.home import Home
from meted.live.store import Batch, LeaseWish
from meted.live.stores import open_store
from meted.testing.store_rows import (
    START,
    TRAINING,
    charge_row,
    interval,
    loss_row,
    request_account,
    request_row,
)

Run = Callable[..., Result]
MONTH = ("--month", "2023-11")
"""In which the rows are."""
HOSTILE = "<script>alert('x')<script>&\"'{{7*7}} Söhne 株式会社"
OTHER = "umbrella-corp"
MATH = "$x^{2}$</svg><img src=x>"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two tenants, one of them hostile; a job, a budget, and time in which nobody was there."""
    with closing(open_store(Home(tmp_path).books, house="here")) as store:
        limit = Budget(
            name=BudgetName("hostile-month"),
            tenant=TenantName(HOSTILE),
            period=Period.MONTH,
            limit=NanoUSD(10_000),
        )
        store.save_budget(limit)
        window = window_of(limit, Micros(START))
        wish = LeaseWish(window=window, granted=NanoUSD(10_000), least=NanoUSD(0))
        store.lease([wish], now=Micros(START), until=Micros(START + 10**9))
        for number in range(6):
            name, project = (HOSTILE, MATH) if number % 2 else (OTHER, "secret-project")
            account = replace(
                request_account(number),
                tenant=TenantName(name),
                project=ProjectName(project),
                deployment=DeploymentName("words" if number % 2 else "hidden-model"),
            )
            row = replace(
                request_row(number, 100_000_000, price=2_000),
                account=account,
                windows=(window,) if number % 2 else (),
            )
            used = {account: 100_000_000, TRAINING: 200_000_000}
            store.write(Batch(closed=(interval(number, used),), requests=(row,)))
        store.write(Batch(session="s1", charges=(charge_row(1, 50),), losses=(loss_row(7),)))
        store.crashed()
    return tmp_path


def made(run: Run, home: Path, *arguments: str) -> str:
    out = home / "report.html"
    said = run("report", "--home", str(home), *MONTH, "--out", str(out), *arguments)
    assert said.exit_code == 0, said.output
    return out.read_text(encoding="utf-8")


def test_the_page_has_the_totals_and_what_to_fix(run: Run, home: Path) -> None:
    text = made(run, home)
    assert "$0.000033333" in text
    assert "Idle devices cost $0.000023, 70 % of the capacity" in text
    assert "Deployment hidden-model idles" in text
    assert "1 November 2023 to 30 November 2023, UTC" in text
    assert "night-shift" in text
    assert "hostile-month" in text


def test_no_name_becomes_markup(run: Run, home: Path) -> None:
    text = made(run, home)
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("</svg>") == text.count("<svg") == 3
    assert (
        "&lt;script&gt;alert(&#39;x&#39;)&lt;script&gt;&amp;&#34;&#39;{{7*7}} Söhne 株式会社"
        in text
    )
    assert "49 Söhne" not in text


def test_the_plots_are_well_formed_and_take_names_as_text(run: Run, home: Path) -> None:
    text = made(run, home)
    plots = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    for plot in plots:
        ElementTree.fromstring(plot)
    assert any("alert('x')" in plot for plot in plots)


def test_the_page_asks_for_nothing_from_elsewhere(run: Run, home: Path) -> None:
    text = re.sub(r'xmlns:?\w*="[^"]*"', "", made(run, home))
    assert not re.search(r"(src|href)=[\"'](?!#)", text)
    assert "url(http" not in text
    assert "@import" not in text


def test_a_tenants_page_shows_nothing_of_the_house(run: Run, home: Path) -> None:
    text = made(run, home, "--tenant", HOSTILE)
    assert "$0.000006000" in text
    for word in (
        *("umbrella", "secret-project", "hidden-model", "night-shift", "idle", "Idle", "overhead"),
        *("argin", "Capacity cost", "Cost", "lost", "What to fix"),
    ):
        assert word not in text.split("<body>")[1], word
    # A name that looks like a formula or like markup is drawn as it is.
    plots = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert ">$x^{2}$&lt;/svg&gt;&lt;img src=x&gt;<" in plots
    body = json.loads(
        run("report", "--home", str(home), *MONTH, "--tenant", HOSTILE, "--json").stdout
    )
    assert body["cost"] == body["idle"] == 0
    assert body["price"] == 6_000
    assert [one["cost"] for one in body["payers"]] == [0]


def test_equal_books_give_an_equal_page(run: Run, home: Path) -> None:
    first, second = (re.sub(r"Made by Meted.*", "", made(run, home)) for _ in range(2))
    assert first == second


def test_a_month_without_books_says_so(run: Run, home: Path) -> None:
    out = home / "empty.html"
    said = run("report", "--home", str(home), "--month", "2022-02", "--out", str(out))
    assert said.exit_code == 0, said.output
    assert "Nothing is in the books for this time" in out.read_text()


def test_a_period_that_cuts_a_folded_hour_is_told(run: Run, home: Path) -> None:
    compact = run("books", "compact", "--home", str(home), "--older-than", "30d")
    assert "folded 1 hours" in compact.stdout, compact.output
    middle = ("--from", "2023-11-14T22:30+00:00", "--to", "2023-11-15T00:00+00:00")
    said = run("report", "--home", str(home), *middle, "--json")
    assert "the limits cut 2023-11-14T22:00Z" in said.stderr
    assert "cut" not in run("report", "--home", str(home), *MONTH, "--json").stderr


def test_a_pdf_is_written(run: Run, home: Path) -> None:
    out = home / "report.pdf"
    said = run("report", "--home", str(home), *MONTH, "--out", str(out))
    assert said.exit_code == 0, said.output
    assert out.read_bytes().startswith(b"%PDF-")
    assert out.read_bytes().count(b"/Type /Page ") == 3


def test_money_per_token_is_that_of_the_rates(run: Run, home: Path) -> None:
    body = json.loads(run("report", "--home", str(home), *MONTH, "--json").stdout)
    (words,) = [one for one in body["served"] if one["name"] == "words"]
    # All requests alike: each of their 7 tokens counts the same.
    assert words["unit_price"]["input"] == words["unit_price"]["output"] == 285_714_286


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--month", "2023-13"),
        ("--month", "november"),
        ("--month", "2023-11", "--from", "1h"),
        ("--from", "2023-11-02", "--to", "2023-11-01"),
        ("--month", "2023-11", "--format", "pdf"),
        ("--month", "2023-11", "--focus", "x.xlsx"),
        ("--month", "2023-11", "--focus", "x.csv", "--out", "y.html"),
    ],
)
def test_reports_that_make_no_sense_are_usage_errors(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    assert run("report", "--home", str(home), *arguments).exit_code == 2
