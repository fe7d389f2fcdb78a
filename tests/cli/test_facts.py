"""`meted facts`: the numbers of a fact, its source, and a sentence where there is none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from meted.cli.facts import _short  # pyright: ignore[reportPrivateUsage]
from meted.domain.catalogue import ARCHITECTURES, DEVICE_KINDS
from meted.domain.catalogue.example_prices import EXAMPLE_PRICES
from meted.live.facts.price_file import read_price_file

Run = Callable[..., Result]

CATALOGUE = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,GpuInfo,\
AvailabilityZone
p5.48xlarge,H100,8.0,192.0,2048.0,55.04,24.0,us-east-1,,us-east-1a
g6.xlarge,L4,1.0,4.0,16.0,0.8048,,us-west-2,,us-west-2a
trn1.2xlarge,Trainium,1.0,8.0,32.0,1.34,,us-east-1,,us-east-1a
"""


def test_a_models_numbers_are_shown_with_their_source(run: Run) -> None:
    shown = run("facts", "models", "meta-llama/Llama-3.1-70B-Instruct").output
    for text in ("70,553,706,496", "141.11 GB", "327,680 bytes a token", "arXiv 2407.21783"):
        assert text in shown
    found = json.loads(run("facts", "models", "deepseek-v3", "--json").output)
    assert found["kv_bytes_per_token_by_precision"]["bf16"] == 70_272
    assert found["experts"]["count"] == 256
    assert found["weight_bytes"] is None


def test_a_model_that_generates_nothing_has_no_kv_cache(run: Run) -> None:
    shown = run("facts", "models", "bert-base").output
    assert "KV cache" not in shown and "FLOPs of a token" in shown


def test_all_models_and_devices_are_listed(run: Run) -> None:
    models = run("facts", "models").output
    assert all(name in models for name in ARCHITECTURES)
    devices = run("facts", "devices").output
    assert all(name in devices for name in DEVICE_KINDS)
    listed = json.loads(run("facts", "devices", "--json").output)
    assert {one["name"] for one in listed} == set(DEVICE_KINDS)
    assert {one["name"] for one in json.loads(run("facts", "models", "--json").output)} == set(
        ARCHITECTURES
    )


def test_a_device_is_shown_under_its_other_names(run: Run) -> None:
    shown = run("facts", "devices", "A100-80GB").output
    assert "a100-80gb" in shown and "312 TFLOP/s, dense" in shown
    assert json.loads(run("facts", "devices", "h100", "--json").output)["name"] == "h100-80gb"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("models", "llama-3.1-71b"),
            "model 'llama-3.1-71b' is not known; near names: llama-3.1-70b",
        ),
        (("devices", "h1000"), "device kind 'h1000' is not known; near names: h100"),
        (("prices", "h1000"), "device kind 'h1000' is not known"),
    ],
)
def test_what_is_not_known_ends_with_a_sentence(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    result = run("facts", *arguments)
    assert result.exit_code == 1
    assert says in result.output


def test_a_facts_file_adds_models_devices_and_prices_of_them(run: Run, tmp_path: Path) -> None:
    facts, prices = tmp_path / "facts.yaml", tmp_path / "prices.yaml"
    facts.write_text("models: {deep: {like: llama-7b, layers: 64}}\ndevices: {npu: {like: t4}}\n")
    prices.write_text('offers: [{kind: npu, usd_per_device_hour: "0.000000001"}]\n')
    more = ("--facts", str(facts))
    assert "64, 4096 wide" in run("facts", "models", "deep", *more).output
    assert "npu" in run("facts", "devices", *more).output
    assert "0.000000001" in run("facts", "prices", "--file", str(prices), *more).output
    assert "is not known" in run("facts", "prices", "--file", str(prices)).output


def test_example_prices_are_shown_for_all_or_for_a_kind(run: Run) -> None:
    listed = json.loads(run("facts", "prices", "--json").output)
    assert len(listed) == len(EXAMPLE_PRICES)
    chosen = json.loads(run("facts", "prices", "h100", "--json").output)
    assert {one["kind"] for one in chosen} == {"h100-80gb"}
    assert {"6.880000000"} < {one["usd_per_device_hour"] for one in chosen}
    assert "6.880000000" in run("facts", "prices", "h100").output


def test_an_imported_catalogue_becomes_a_price_file(run: Run, tmp_path: Path) -> None:
    catalogue, out = tmp_path / "vms.csv", tmp_path / "prices.yaml"
    catalogue.write_text(CATALOGUE)
    asked = ("facts", "prices", "--import", str(catalogue), "--provider", "aws")
    result = run(*asked, "--out", str(out))
    assert result.exit_code == 0
    assert "left out 1 rows: Trainium, not a known device kind" in result.output
    assert "add interruptions_per_device_hour" in result.output
    offers = read_price_file(out)
    assert [(one.kind, str(one.purchase), one.nano_usd_per_device_hour) for one in offers] == [
        ("h100-80gb", "on-demand", 6_880_000_000),
        ("h100-80gb", "spot", 3_000_000_000),
        ("l4", "on-demand", 804_800_000),
    ]
    assert {one.provider for one in offers} == {"aws"} and all(one.dated for one in offers)
    chosen = run(*asked, "--region", "us-west-2", "--json")
    assert [one["kind"] for one in json.loads(chosen.stdout)] == ["l4"]
    assert run(*asked, "--region", "mars").exit_code == 1


@pytest.mark.parametrize("options", [("--provider", "aws"), ("--region", "x")])
def test_options_for_an_import_are_refused_without_one(run: Run, options: tuple[str, str]) -> None:
    assert run("facts", "prices", *options).exit_code == 2


@pytest.mark.parametrize(
    ("count", "said"),
    [(70_553_706_496, "70.6B"), (134_515_008, "135M"), (999_885_952, "1B"), (1_008e9, "1.01T"),
     (12, "12")],
)  # fmt: skip
def test_counts_are_written_as_people_say_them(count: int, said: str) -> None:
    assert _short(count) == said
