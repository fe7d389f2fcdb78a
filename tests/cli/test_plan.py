"""`meted plan` answers first, proves it, and says of what cannot be which wish is in the way."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from meted.cli.main import main
from meted.live.config import ConfigError, load_config
from meted.live.facts import FactError, FactsFile
from meted.live.home import find_home
from meted.live.traffic import read_trace
from meted.live.training_jobs import read_jobs

EXAMPLES = Path(__file__).parents[2] / "examples"
PRICES = """\
dated: 2026-01-02
offers:
  - {kind: h100-80gb, usd_per_device_hour: "2.50"}
  - {kind: l4, usd_per_device_hour: "0.80"}
  - {kind: l4, usd_per_device_hour: "0.30", purchase: spot}
"""
SMALL = ("--model", "llama-3.1-8b", "--traffic", "1,300,60", "--devices", "h100,l4")
LOOSE = ("--slo", "ttft_p99=60s,tpot_p99=5s")


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "prices.yaml"
    path.write_text(PRICES)
    return path


@pytest.fixture(scope="module")
def usual(prices: Path) -> dict[str, Any]:
    """The plan of the small wish."""
    return planned(prices.parent, *SMALL, "--prices", str(prices))


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", "--home", str(home), *arguments])


def planned(home: Path, *arguments: str) -> dict[str, Any]:
    said = run(home, *arguments, "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


def test_json_money_is_exact_and_adds_up(usual) -> None:
    told = usual
    hourly = sum(
        one["nano_usd_per_device_hour"] * one["devices_by_period"][0] for one in told["offers"]
    )
    assert told["nano_usd_per_month"] == hourly * 730
    assert told["nano_usd_per_month"] == sum(one["nano_usd_per_month"] for one in told["offers"])
    whole, _, part = told["usd_per_month"].partition(".")
    assert int(whole) * 10**9 + int(part) == told["nano_usd_per_month"]
    assert told["nano_usd_bound_per_month"] <= told["nano_usd_per_month"]
    assert told["nano_usd_perfect_autoscaler_per_month"] <= told["nano_usd_per_month"]


def test_the_plan_holds_its_limits_in_the_replay(tmp_path, prices) -> None:
    told = planned(
        tmp_path, *SMALL, "--prices", str(prices), "--slo", "ttft_p99=2s,tpot_p95=90ms,e2e_mean=9s"
    )
    assert told["replay"]["holds"]
    limits = {one["limit"]: one for one in told["replay"]["limits"]}
    assert set(limits) == {"ttft_p99", "tpot_p95", "e2e_mean"}
    assert limits["tpot_p95"]["wished_micros"] == 90_000
    for one in limits.values():
        assert max(one["attained_micros_by_period"]) <= one["wished_micros"]


def test_a_kind_that_costs_less_alone_is_not_left_out(usual) -> None:
    told = usual
    alone = [one["nano_usd_per_hour"] for one in told["single_kind"]]
    assert {one["name"] for one in told["single_kind"]} == {"only h100-80gb", "only l4"}
    month = told["nano_usd_per_month"]
    assert all(hourly is None or hourly * 730 >= month - 730 for hourly in alone)


def test_spot_devices_come_only_where_they_are_allowed(tmp_path, prices) -> None:
    wished = (*SMALL, "--prices", str(prices), *LOOSE)
    without = planned(tmp_path, *wished)
    allowed = planned(tmp_path, *wished, "--spot", "1", "--spare", "0")
    assert {one["purchase"] for one in without["offers"]} == {"on-demand"}
    assert "spot" in {one["purchase"] for one in allowed["offers"]}
    assert allowed["nano_usd_per_month"] < without["nano_usd_per_month"]


def test_text_begins_with_what_to_rent_and_its_price(tmp_path, prices, usual) -> None:
    told = usual
    said = run(tmp_path, *SMALL, "--prices", str(prices))
    first, *rest = said.output.splitlines()
    count, kind = told["offers"][0]["devices_by_period"][0], told["offers"][0]["kind"]
    cents = round(told["nano_usd_per_month"] / 10_000_000)
    assert first.startswith(f"Rent {count} x {kind} on-demand: ${cents // 100:,}.{cents % 100:02}")
    text = "\n".join(rest)
    for title in ("Fleet", "Cost", "SLO, in the replay", "Other fleets", "How sure", "Facts"):
        assert f"\n{title}" in text
    assert f"prices: {prices}" in text
    assert "prices dated 2026-01-02" in text


def test_without_prices_it_says_that_they_are_examples(tmp_path) -> None:
    said = run(tmp_path, *SMALL)
    assert said.exit_code == 0, said.output
    assert "prices: built-in examples" in said.output


def test_the_day_has_a_fleet_for_each_of_its_periods(tmp_path, prices) -> None:
    told = planned(
        tmp_path, "--model", "llama-3.1-8b", "--traffic", "6,600,150", "--devices", "l4",
        "--prices", str(prices), "--day", "office",
    )  # fmt: skip
    assert [one["name"] for one in told["periods"]] == ["peak", "shoulder", "night"]
    devices = [
        sum(one["devices_by_period"][period] for one in told["offers"]) for period in range(3)
    ]
    assert devices[0] > devices[1] > devices[2] > 0
    month = sum(one["hours_per_month"] * one["nano_usd_per_hour"] for one in told["periods"])
    assert told["nano_usd_per_month"] == pytest.approx(month, abs=1000)


@pytest.mark.parametrize(
    ("arguments", "constraint"),
    [
        (("--slo", "tpot_p99=1ms"), "tpot_p99"),
        (("--budget", "10"), "budget"),
    ],
)
def test_what_cannot_be_names_the_constraint_and_the_nearest(
    tmp_path, prices, usual, arguments: tuple[str, ...], constraint: str
) -> None:
    said = run(tmp_path, *SMALL, "--prices", str(prices), *arguments, "--json")
    told = json.loads(said.stdout)
    assert said.exit_code == 1
    assert (told["feasible"], told["constraint"]) == (False, constraint)
    assert told["nearest"] > told["asked"]
    if constraint == "budget":
        assert told["nearest"] == pytest.approx(usual["nano_usd_per_month"] / 1e9)


def test_the_refusal_is_a_sentence_on_a_terminal(tmp_path, prices) -> None:
    said = run(tmp_path, *SMALL, "--prices", str(prices), "--slo", "tpot_p99=1ms")
    assert said.exit_code == 1
    assert "no fleet does this: tpot_p99 is limited to 1.0 ms, but requests" in said.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give --model and --traffic"),
        ((*SMALL, "--slo", "ttft=2s"), "--slo says 'ttft=2s', expected limits such as"),
        ((*SMALL, "--slo", "ttft_p99=2s,ttft_p99=3s"), "limits ttft_p99 twice"),
        ((*SMALL, "--weights", "bf15"), "--weights names 'bf15'"),
        ((*SMALL, "--tp", "two"), "--tp names 'two'"),
        (("--model", "llama-3.1-8b", "--traffic", "1,2"), "has 2 numbers, expected three"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path, arguments: tuple[str, ...], sentence: str) -> None:
    said = run(tmp_path, *arguments)
    assert said.exit_code == 2
    assert sentence in said.output


def test_an_unknown_device_or_model_is_named(tmp_path) -> None:
    for arguments in (("llama-9", "h100"), ("llama-3.1-8b", "h1000")):
        said = run(
            tmp_path, "--traffic", "1,300,60", "--model", arguments[0], "--devices", arguments[1]
        )
        assert said.exit_code == 1
        assert "is not known" in said.output


def test_a_plan_for_these_cores_is_a_configuration_of_a_house(tmp_path, monkeypatch) -> None:
    out = tmp_path / "plan.yaml"
    (tmp_path / "meted.yaml").write_text('pool: {cores: 1, price_usd_per_device_hour: "0.03"}')
    monkeypatch.chdir(tmp_path)
    told = planned(
        tmp_path, "--model", "smollm2-135m", "--traffic", "0.2,100,20", "--devices", "here",
        *LOOSE, "--out", str(out),
    )  # fmt: skip
    config = load_config(out)
    (served,) = config.deployments
    assert (served.name, served.checkpoint) == ("smollm2-135m", "smollm2-135m")
    assert (served.slo.ttft_p95, served.slo.tpot_p95) == (60_000_000, 5_000_000)
    assert (len(config.pool.devices), config.pool.price.nano_usd_per_device_hour) == (1, 30_000_000)
    hourly = 30_000_000
    assert told["nano_usd_per_month"] == hourly * 730
    assert yaml.safe_load(out.read_text())["plan"]["devices"][0]["kind"] == "here"


def test_a_house_refuses_a_plan_for_devices_that_it_has_not(tmp_path, prices) -> None:
    out = tmp_path / "plan.yaml"
    planned(tmp_path, *SMALL, "--prices", str(prices), "--out", str(out))
    with pytest.raises(ConfigError, match=r"plan\.devices\[0\] wants \d+ x (h100-80gb|l4)"):
        load_config(out)
    said = CliRunner().invoke(main, ["up", "--config", str(out), "--home", str(tmp_path / "home")])
    assert said.exit_code == 1
    assert "take the section plan out to serve on these cores" in said.output
    assert not (tmp_path / "home").exists()


def test_an_unknown_key_of_a_plan_is_an_error(tmp_path) -> None:
    path = tmp_path / "plan.yaml"
    plan = {
        "devices": [], "usd_per_month": "1", "usd_per_million_tokens": "1", "price_dated": "2026",
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"plan": plan}))
    with pytest.raises(ConfigError, match=r"unknown key plan\.price_dated .*'prices_dated'"):
        load_config(path)


def test_the_plot_is_drawn(tmp_path, prices) -> None:
    picture = tmp_path / "plan.svg"
    said = run(
        tmp_path, "--model", "llama-3.1-8b", "--traffic", "1,300,60", "--devices", "l4",
        "--prices", str(prices), "--slo", "tpot_p99=150ms", "--tp", "1", "--plot", str(picture),
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    text = picture.read_text()
    for word in ("limit on tpot_p99, ms", "USD a month", "this plan", "cheapest fleet"):
        assert word in text


def test_the_examples_are_read_as_the_documentation_says(tmp_path: Path) -> None:
    assert [one.cached_tokens for one in read_trace(EXAMPLES / "traffic.csv")[:2]] == [0, 512]
    home = find_home(str(tmp_path))
    told, planned = read_jobs(EXAMPLES / "plan-jobs.yaml", home=home, facts=FactsFile())
    assert (told.device_hours["h100-80gb"], told.deadline_hours) == (120, 400)
    # 50 million tokens of an 8B model: 6 x 8e9 x 5e7 FLOPs at 100 to 1 % of an H100's peak.
    assert set(planned.device_hours) == {"h100-80gb", "h200-141gb"}
    assert 0.6 < planned.device_hours["h100-80gb"] < 60


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ("{name: a, model: gpt3-175b, tokens: 1e6, devices: {l4: 1}}", "runs on none of its"),
        ("{name: a, model: gpt2, tokens: 0, devices: {l4: 1}}", "tokens is 0, expected a number"),
        ("{name: a, model: gpt2, tokens: 5}", "has devices None, expected numbers by kind"),
        ("{name: a, model: gpt2, device_hours: {l4: 1}}", "device_hours and a model, or neither"),
        ("{name: a}", "device_hours and a model, or neither"),
    ],
)
def test_a_wrong_job_says_what_is_wrong(tmp_path: Path, job: str, says: str) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(f"jobs: [{job}]")
    with pytest.raises(FactError, match=says):
        read_jobs(path, home=find_home(str(tmp_path)), facts=FactsFile())
    written = yaml.safe_load((EXAMPLES / "plan-here.yaml").read_text())
    assert list(written) == ["pool", "deployments", "plan"]
