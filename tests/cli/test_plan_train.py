"""`meted plan train` tells time, money, memory and layout, or which limit cannot be kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meted.cli.main import main

GPT3 = ("--model", "gpt3-175b", "--tokens", "300e9")
PRICES = """\
dated: 2026-01-02
offers:
  - {kind: a100-80gb, usd_per_device_hour: "2"}
  - {kind: a100-80gb, usd_per_device_hour: "0.5", purchase: spot}
  - {kind: h100-80gb, usd_per_device_hour: "100"}
"""


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", "train", "--home", str(home), *arguments])


def planned(home: Path, *arguments: str) -> dict[str, Any]:
    said = run(home, *arguments, "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


@pytest.fixture
def prices(tmp_path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return path


def test_gpt3_takes_its_flops_and_megatrons_34_days_are_inside(tmp_path) -> None:
    """Brown et al. 2020 count 3.14e23 FLOP; Narayanan et al. 2021 tell 34 days on 1,024 A100."""
    told = planned(tmp_path, *GPT3, "--devices", "1024xA100")
    assert told["model_flops"] == pytest.approx(3.14e23, rel=0.05)
    assert told["hours"]["low"] < 34 * 24 < told["hours"]["high"]
    layout = told["layout"]
    assert layout["tensor"] * layout["pipeline"] * layout["data"] == told["devices"] == 1024
    assert told["memory_bytes"]["total"] <= told["memory_room_bytes"] < 80e9 * 1.08


def test_money_is_the_rent_of_all_devices_and_never_spot(tmp_path, prices) -> None:
    told = planned(tmp_path, *GPT3, "--devices", "1024xa100", "--prices", str(prices))
    for end in ("low", "expected", "high"):
        assert told[f"nano_usd_{end}"] == pytest.approx(told["device_hours"][end] * 2e9, rel=1e-9)
        assert told["device_hours"][end] == pytest.approx(told["hours"][end] * 1024)
    whole, _, part = told["usd_expected"].partition(".")
    assert int(whole) * 10**9 + int(part) == told["nano_usd_expected"]


def test_the_cheaper_choice_is_taken_unless_the_deadline_is_before_it(tmp_path, prices) -> None:
    wished = (*GPT3, "--devices", "1024xa100,1024xh100", "--prices", str(prices))
    cheap = planned(tmp_path, *wished)
    assert cheap["device_kind"] == "a100-80gb"
    hours = round(cheap["hours"]["expected"]) - 24
    assert planned(tmp_path, *wished, "--deadline", f"{hours}h")["device_kind"] == "h100-80gb"


def test_text_begins_with_time_and_money(tmp_path) -> None:
    wished = (*GPT3, "--devices", "1024xa100")
    told = planned(tmp_path, *wished)
    said = run(tmp_path, *wished)
    days, cents = told["hours"]["expected"] / 24, round(told["nano_usd_expected"] / 1e7)
    first = said.output.splitlines()[0]
    assert first.startswith(f"gpt3-175b on 300,000,000,000 tokens takes {days:.3g} days")
    assert first.endswith(f"on 1024 x a100-80gb: ${cents // 100:,}.{cents % 100:02}.")
    for word in ("optimizer", "Checkpoint every", "failures expected", "Other ways"):
        assert word in said.output


def test_adapters_train_where_all_weights_would_not_fit(tmp_path) -> None:
    wished = ("--model", "llama-3.1-8b", "--tokens", "20M", "--devices", "1xl40s")
    refused = run(tmp_path, *wished, "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["feasible"] is False
    assert planned(tmp_path, *wished, "--lora", "16")["layout"]["lora_rank"] == 16


@pytest.mark.parametrize(
    ("limit", "constraint"), [(("--deadline", "1d"), "deadline"), (("--budget", "99"), "budget")]
)
def test_a_limit_that_cannot_be_kept_is_told_with_the_nearest(
    tmp_path, limit: tuple[str, ...], constraint: str
) -> None:
    wished = (*GPT3, "--devices", "1024xa100")
    said = run(tmp_path, *wished, *limit, "--json")
    refused, free = json.loads(said.stdout), planned(tmp_path, *wished)
    assert said.exit_code == 1
    assert refused["constraint"] == constraint
    nearest = {
        "deadline": free["hours"]["expected"],
        "budget": free["nano_usd_expected"] / 1e9,
    }[constraint]
    assert refused["nearest"] == pytest.approx(nearest, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--devices", "1024"), "'1024' is no choice; expected e.g. 1024xa100"),
        (("--devices", "1xa100", "--deadline", "soon"), "'soon' is no time"),
        (("--devices", "1xa100", "--optimizer", "lion2"), "--optimizer is 'lion2'"),
        (("--devices", "1xa100", "--tokens", "many"), "'many' is no number of tokens"),
        (("--devices", "1xa100", "--tokens", "0"), "'0' is less than one token"),
    ],
)
def test_wrong_words_exit_with_2(tmp_path, arguments: tuple[str, ...], sentence: str) -> None:
    said = run(tmp_path, *GPT3, *arguments)
    assert said.exit_code == 2
    assert sentence in said.output


@pytest.mark.parametrize(
    ("text", "tokens"), [("300e9", 300 * 10**9), ("15T", 15 * 10**12), ("2.5b", 25 * 10**8)]
)
def test_tokens_are_written_as_people_say_them(tmp_path, text: str, tokens: int) -> None:
    wished = ("--model", "gpt3-175b", "--devices", "1024xa100", "--tokens", text)
    assert planned(tmp_path, *wished)["tokens"] == tokens
