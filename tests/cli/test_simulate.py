"""`meted simulate` gives each policy the same work, and its books and files say what happened."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meted.cli.main import main
from meted.domain.allocation import Plan, ReplicaAllocation, Snapshot
from meted.policy.allocation import POLICIES
from meted.policy.placement import Placer
from meted.policy.training.fifo import FifoPolicy
from meted.policy.training.priority import PriorityPolicy

TABLE = {
    "v100": {"('LM', 1)": {"null": 4.0}, "('LM', 2)": {"null": 7.0}},
    "k80": {"('LM', 1)": {"null": 1.0}},
}
JOBS = [
    ("LM", 14_400, 1, 0),
    ("LM", 7_200, 1, 0),
    ("LM", 25_200, 2, 1_800),
    ("LM", 3_600, 1, 3_600),
]
EXAMPLES = Path(__file__).parents[2] / "examples"
POOL = ("--pool", "2x1xV100@1.00,1xK80@0.25/0.25/0")


class Steady:
    """A policy for tests that serves: always one replica on the first option."""

    def decide(self, snapshot: Snapshot) -> Plan:
        placer = Placer(snapshot)
        replicas: list[ReplicaAllocation] = []
        for one in snapshot.deployments:
            before = None if snapshot.previous is None else snapshot.previous.deployment(
                one.deployment
            )  # fmt: skip
            places = () if before is None else before.places
            if not places or not placer.keep(places[0]):
                option = one.options[0]
                taken = placer.take(option.kind, option.devices, one_node=True)
                places = () if taken is None else (taken,)
            replicas.append(
                ReplicaAllocation(deployment=one.deployment, places=places, reason="always one")
            )
        return Plan(replicas=tuple(replicas), jobs=())


@pytest.fixture(autouse=True)
def policies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two policies for jobs and one for requests, under names of their own."""
    for name, made in (("line", FifoPolicy), ("rank", PriorityPolicy), ("steady", Steady)):
        monkeypatch.setitem(POLICIES, name, made)
    yield


@pytest.fixture
def trace(tmp_path: Path) -> str:
    (tmp_path / "simulation_throughputs.json").write_text(json.dumps(TABLE))
    lines = [
        "\t".join(map(str, (kind, "run", "lm", "--steps", 1, steps, gpus, 1, "-1.0", at)))
        for kind, steps, gpus, at in JOBS
    ]
    path = tmp_path / "jobs.trace"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def requests(tmp_path: Path) -> str:
    path = tmp_path / "requests.csv"
    rows = [f"{second},{200 + 10 * (second % 7)},{20 + second % 5}" for second in range(0, 120, 3)]
    path.write_text("\n".join(["seconds,prompt_tokens,output_tokens", *rows]))
    return str(path)


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", "--home", str(home), *arguments])


def simulated(home: Path, *arguments: str) -> dict[str, Any]:
    said = run(home, *arguments, "--json")
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


def mean(told: dict[str, Any], measure: str, policy: str) -> float:
    (row,) = (one for one in told["measures"] if one["name"] == measure)
    return row["by_policy"][policy]["mean"]


def test_jobs_take_as_long_as_their_table_says(tmp_path, trace) -> None:
    told = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line", "--at-once")
    # The first two take a V100 each for 1 h and 0.5 h; the third takes both when they are free
    # at 1 h, for 1 h; the fourth waits behind it and takes the K80 at 1 h, for 1 h.
    assert mean(told, "makespan", "line") == pytest.approx(2.0, abs=1e-6)
    assert mean(told, "jct_mean", "line") == pytest.approx((1 + 0.5 + 1.5 + 1) / 4, abs=1e-6)
    assert mean(told, "usd_busy", "line") == pytest.approx(1 + 0.5 + 2 + 0.25, abs=1e-6)


def test_every_nano_dollar_is_in_the_books(tmp_path, trace) -> None:
    told = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line,rank", "--seeds", "3")
    assert len(told["books"]) == 6
    for one in told["books"]:
        assert one["balanced"]
        assert one["device_micros"] == one["capacity_device_micros"]
        hours = one["capacity_device_micros"] / 3 / 3.6e9
        assert one["nano_usd"] == pytest.approx(hours * 2.25e9, abs=3)


def test_equal_commands_give_equal_bytes_and_policies_the_same_work(tmp_path, trace) -> None:
    out = [tmp_path / "a", tmp_path / "b"]
    said = [
        run(tmp_path, "--trace", trace, *POOL, "--policy", "line,rank", "--seeds", "2",
            "--mtbf", "3h", "--save", "5m", "--restart", "30s", "--out", str(folder)).output
        for folder in out
    ]  # fmt: skip
    assert said[0].replace(str(out[0]), "") == said[1].replace(str(out[1]), "")
    for path in out[0].iterdir():
        assert path.read_bytes() == (out[1] / path.name).read_bytes(), path.name
    rows = read(out[0] / "jobs.csv")
    work = {
        policy: [(row["seed"], row["job"], row["arrived_micros"]) for row in rows
                 if row["policy"] == policy]
        for policy in ("line", "rank")
    }  # fmt: skip
    assert work["line"] == work["rank"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_the_folder_s_books_add_up_to_its_segments_and_the_page_says_so(tmp_path, trace) -> None:
    out = tmp_path / "out"
    said = run(tmp_path, "--trace", trace, *POOL, "--policy", "line", "--out", str(out))
    assert said.exit_code == 0, said.output
    books = sum(int(row["nano_usd"]) for row in read(out / "books.csv"))
    segments = sum(int(row["nano_usd"]) for row in read(out / "segments.csv"))
    told = json.loads((out / "results.json").read_text())
    assert books == segments == told["books"][0]["nano_usd"]
    assert all(row["reason"] for row in read(out / "decisions.csv"))
    page = (out / "report.html").read_text()
    assert "add up to capacity x price, to the nano-dollar" in page
    assert page.count("<svg") == 3
    for outside in ("src=", "<link", "<script", "@import", 'href="http'):
        assert outside not in page


def test_names_are_escaped_in_the_page(tmp_path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("timestamp,duration,num_gpus,cluster\n2017-10-09 07:00:00,60,1,<b>red</b>\n")
    out = tmp_path / "out"
    run(tmp_path, "--trace", str(path), *POOL, "--policy", "line", "--out", str(out))
    page = (out / "report.html").read_text()
    assert "<b>red" not in page
    assert "&lt;b&gt;red" in page


def test_intervals_come_with_seeds(tmp_path, trace) -> None:
    one = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line")
    five = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line", "--seeds", "5")
    single, several = (
        {row["name"]: row["by_policy"]["line"] for row in told["measures"]} for told in (one, five)
    )
    assert single["jct_mean"]["low"] is None
    assert several["jct_mean"]["runs"] == 5
    assert several["jct_mean"]["low"] < several["jct_mean"]["mean"] < several["jct_mean"]["high"]


def test_the_text_is_a_table_with_the_best_marked(tmp_path, trace) -> None:
    said = run(tmp_path, "--trace", trace, *POOL, "--policy", "line,rank").output
    assert said.splitlines()[0].split() == ["MEASURE", "LINE", "RANK"]
    assert "JCT, mean, h" in said
    assert "One seed, so no intervals" in said
    assert "Books of rank: balanced" in said


def test_a_policy_s_parameter_changes_what_it_does(tmp_path, trace) -> None:
    plain = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line")
    kept = simulated(
        tmp_path, "--trace", trace, *POOL, "--policy", "line", "--set", "line.keep_seconds=7200"
    )
    assert mean(kept, "jct_mean", "line") > mean(plain, "jct_mean", "line")


def test_the_end_cuts_what_is_left(tmp_path, trace) -> None:
    told = simulated(tmp_path, "--trace", trace, *POOL, "--policy", "line", "--for", "45m")
    assert mean(told, "unfinished", "line") == 2
    assert told["books"][0]["capacity_device_micros"] == 3 * 45 * 60 * 1_000_000


def test_failing_nodes_lose_work_since_the_last_checkpoint(tmp_path, trace) -> None:
    common = ("--trace", trace, *POOL, "--policy", "line", "--mtbf", "4h", "--mttr", "5m")
    often, seldom = (
        simulated(tmp_path, *common, "--seeds", "4", "--save", save) for save in ("1m", "40m")
    )
    assert mean(often, "restarts", "line") > 0
    assert mean(seldom, "jct_mean", "line") > mean(often, "jct_mean", "line")


def test_requests_are_answered_by_the_predicted_model(tmp_path, requests) -> None:
    told = simulated(
        tmp_path, "--trace", requests, "--model", "llama-3.1-8b", "--pool", "1x2xH100@2.50",
        "--policy", "steady", "--for", "5m", "--slo", "ttft=60s,tpot=1s",
    )  # fmt: skip
    assert mean(told, "unanswered", "steady") == 0
    assert mean(told, "attainment", "steady") == 1.0
    # A replica loads first: the first requests wait for it.
    assert mean(told, "ttft_p99", "steady") > 10_000 > 1_000 > mean(told, "ttft_p50", "steady") > 0
    assert 5 < mean(told, "tpot_p50", "steady") < 100
    assert told["books"][0]["nano_usd"] == 2 * (2_500_000_000 * 5 // 60)
    assert any("requests/s inside the SLO" in fact for fact in told["facts"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--trace", "TRACE"), "give --pool and --policy"),
        (("--trace", "TRACE", *POOL, "--policy", "best"), "--policy names 'best', expected some"),
        (("--trace", "TRACE", *POOL, "--policy", "line", "--set", "line.x"), "--set says 'line.x'"),
        (("--trace", "TRACE", *POOL, "--policy", "line", "--set", "rank.x=1"), "does not name"),
        (("--trace", "nowhere", *POOL, "--policy", "line"), "nowhere is no file"),
        (("--trace", "TRACE,weeks=2", *POOL, "--policy", "line"), "says 'weeks=2', expected"),
        (("--trace", "TRACE", "--pool", "V100", "--policy", "line"), "--pool says 'V100'"),
        (("--trace", "TRACE", "--pool", "4xL4", "--policy", "line"), "none of the 4 jobs can run"),
        (("--trace", "REQUESTS", *POOL, "--policy", "line"), "name the model that answers"),
        (("--trace", "TRACE", *POOL, "--policy", "line", "--slo", "ttft=1s"), "no --trace has any"),
        (("--trace", "REQUESTS", *POOL, "--policy", "line", "--model", "smollm2-135m", "--slo",
          "ttft_p99=1s"), "--slo says 'ttft_p99=1s'"),
        (("--trace", "TRACE", *POOL, "--policy", "line", "--interval", "0s"), "--interval is 0"),
        (("--trace", "diurnal:rate=1", *POOL, "--policy", "line"), "how long is it?"),
        (("--trace", "diurnal:rate=1", *POOL, "--policy", "line", "--for", "1h"), "lacks input"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(
    tmp_path, trace, requests, arguments: tuple[str, ...], sentence: str
) -> None:
    named = {"TRACE": trace, "REQUESTS": requests}
    for name, path in named.items():
        arguments = tuple(one.replace(name, path) for one in arguments)
    said = run(tmp_path, *arguments)
    assert said.exit_code == 2, said.output
    assert sentence in " ".join(said.output.split())


def test_the_example_runs(tmp_path) -> None:
    told = simulated(
        tmp_path, "--trace", str(EXAMPLES / "jobs.csv"), "--pool", str(EXAMPLES / "pool.yaml"),
        "--policy", "line", "--interval", "5m", "--restart", "1m", "--save", "15m",
    )  # fmt: skip
    assert mean(told, "unfinished", "line") == 0
    assert told["facts"] == ["work: 48 jobs of jobs.csv"]


class Idle:
    """A policy for tests that runs nothing."""

    def decide(self, snapshot: Snapshot) -> Plan:
        return Plan(replicas=(), jobs=())


def test_a_policy_that_starves_a_job_ends_with_a_sentence(tmp_path, trace, monkeypatch) -> None:
    monkeypatch.setitem(POLICIES, "idle", Idle)
    said = run(tmp_path, "--trace", trace, *POOL, "--policy", "idle", "--interval", "1h")
    assert said.exit_code == 1
    assert "--policy idle (seed 0): 4 jobs are left after" in said.output
    assert "said: nothing of it" in said.output


def test_what_cannot_be_exits_with_1(tmp_path, trace) -> None:
    said = run(tmp_path, "--trace", trace, *POOL, "--policy", "line", "--set", "line.x=1")
    assert said.exit_code == 1
    assert "does not take these parameters" in said.output
    said = run(tmp_path, "--trace", trace, *POOL, "--policy", "static")
    assert said.exit_code == 1
    assert "--policy static makes a plan that cannot be (seed 0)" in said.output
