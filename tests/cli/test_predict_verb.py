"""`meted predict` says what a model will do, and which of its options do not go together."""

import json

import pytest
from click.testing import CliRunner, Result

from meted.cli.main import main


def run(home: object, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["predict", "--home", str(home), *arguments])


def test_a_prediction_has_every_number_with_its_interval(tmp_path) -> None:
    said = run(
        tmp_path,
        *("--model", "llama-3.1-70b", "--device", "h100", "--devices", "4", "--price", "2.5"),
        *("--prompt", "1000", "--output", "200", "--batch", "16", "--json"),
    )
    assert said.exit_code == 0, said.output
    told = json.loads(said.output)
    for name in ("prefill", "ttft", "tpot", "tokens_per_second", "joules_per_token"):
        assert 0 < told[name]["low"] < told[name]["expected"] < told[name]["high"]
        assert told[name]["level"] == 0.9
    assert told["largest_batch"] > 16
    assert told["usd_per_million"]["expected"] > told["usd_per_million_all"]["expected"]


def test_the_table_names_model_devices_and_units(tmp_path) -> None:
    said = run(tmp_path, "--model", "llama-3.1-8b", "--device", "l4", "--weights", "int8")
    assert said.exit_code == 0, said.output
    for word in ("llama-3.1-8b", "NVIDIA L4", "int8 weights", "TTFT", "J per generated token"):
        assert word in said.output
    assert "$ per million" not in said.output


def test_a_rate_is_answered_with_the_latencies_that_its_arrivals_feel(tmp_path) -> None:
    said = run(
        tmp_path,
        *("--model", "llama-3.1-8b", "--device", "h100", "--rate", "2", "--json"),
    )
    assert said.exit_code == 0, said.output
    usual, worst = json.loads(said.output)["latencies"]
    assert (usual["share"], worst["share"]) == (0.5, 0.99)
    assert usual["ttft"]["expected"] < worst["ttft"]["expected"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "llama-3.1-70b", "--device", "h100"), "more devices or fewer bits"),
        (("--model", "llama-9", "--device", "h100"), "is not known"),
        (("--model", "llama-3.1-8b", "--device", "h1000"), "is not known"),
        (
            ("--model", "llama-3.1-8b", "--device", "h100", "--devices", "4", "--tp", "3"),
            "make --tp times --pp equal to --devices",
        ),
        (
            ("--model", "llama-3.1-8b", "--device", "h100", "--rate", "1000"),
            "take more devices or several replicas",
        ),
    ],
)
def test_what_cannot_be_says_why_and_what_to_do(
    tmp_path, arguments: tuple[str, ...], sentence: str
) -> None:
    said = run(tmp_path, *arguments)
    assert said.exit_code == 1
    assert sentence in said.output


@pytest.mark.parametrize("arguments", [(), ("--live", "--model", "llama-3.1-8b")])
def test_one_question_at_a_time(tmp_path, arguments: tuple[str, ...]) -> None:
    said = run(tmp_path, *arguments)
    assert said.exit_code == 2
    assert "give one of" in said.output


def test_live_without_a_house_exits_as_every_verb_does(tmp_path) -> None:
    assert run(tmp_path, "--live").exit_code == 3
