"""`meted train` and `meted jobs`: what is handed in, and how a job is followed to its end."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from meted.live.home import Home, RunningHouse, find_home, write_private

Run = Callable[..., Result]

JOB = {
    "name": "night",
    "kind": "training",
    "what": "smollm2-135m by lora with adamw",
    "status": "running",
    "base": "smollm2-135m",
    "method": "lora",
    "optimizer": "adamw",
    "tenant": "default",
    "step": 3,
    "total_steps": 10,
    "phase": "train",
    "loss": 2.5,
    "held_out_before": 3.25,
    "held_out": 3.0,
    "held_out_converted": None,
    "tokens": 6144,
    "tokens_per_second": 300.4,
    "device_seconds": 12.5,
    "cost_nano_usd": 69_444,
    "cost_to_finish_nano_usd": 162_037,
    "checkpoint_step": 2,
    "error": None,
    "result": None,
}
LOSSES = [
    {
        "step": 0,
        "tokens": 0,
        "loss": None,
        "held_out": 3.25,
        "when": "before",
        "device_nanos": 1,
        "cost": 1,
    },
    {
        "step": 1,
        "tokens": 9,
        "loss": 3.1,
        "held_out": None,
        "when": "train",
        "device_nanos": 2,
        "cost": 20,
    },
]


@dataclass
class Script:
    """A recorded house: its next answers to GET /jobs/night, and what it was sent."""

    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    sent: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    home: Home = field(default_factory=find_home)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(home=find_home(tmp_path))

    class Doors(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = script.answers
            self._answer(answers.pop(0) if len(answers) > 1 else answers[0])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.sent.append((self.path, json.loads(body)))
            self._answer(script.answers[0])

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Doors)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.home.prepare()
    write_private(script.home.admin_key, b"mt-recorded\n")
    with script.home.lock():
        script.home.write_house(
            RunningHouse(pid=1, url=f"http://127.0.0.1:{server.server_address[1]}")
        )
        yield script
    server.shutdown()
    server.server_close()
    thread.join()


DONE = {**JOB, "status": "done", "step": 10, "held_out": 2.75, "held_out_converted": 2.76}
FAILED = {**JOB, "status": "failed", "error": "the data holds 3 tokens"}


def test_options_become_a_whole_spec_with_an_absolute_path(run: Run, script: Script) -> None:
    script.answers = [DONE]
    said = run(
        *("train", "--model", "smollm2-135m", "--data", "notes", "--name", "night"),
        *("--steps", "5", "--method", "full", "--optimizer", "sgd", "--detach"),
        *("--home", str(script.home.folder)),
    )
    assert said.exit_code == 0, said.output
    ((path, spec),) = script.sent
    assert path == "/meted/v1/jobs"
    assert spec["data"] == str(Path("notes").absolute())
    assert (spec["base"], spec["steps"], spec["epochs"]) == ("smollm2-135m", 5, None)
    assert (spec["method"], spec["optimizer"], spec["tenant"]) == ("full", "sgd", "default")


def test_levers_are_options(run: Run, script: Script) -> None:
    script.answers = [DONE]
    said = run(
        *("train", "--model", "a", "--data", "notes", "--name", "night", "--lora-alpha", "8"),
        *("--lora-targets", "attention", "--activation-checkpointing", "--patience", "3"),
        *("--optimizer", "lion", "--detach", "--home", str(script.home.folder)),
    )
    assert said.exit_code == 0, said.output
    ((_, spec),) = script.sent
    assert (spec["lora_alpha"], spec["lora_targets"]) == (8.0, "attention")
    assert (spec["activation_checkpointing"], spec["patience"]) == (True, 3)
    assert (spec["optimizer"], spec["auto"]) == ("lion", None)


def test_auto_asks_for_a_search_at_the_house_s_price(run: Run, script: Script) -> None:
    script.answers = [{"pool": {"price_usd_per_device_hour": "0.02"}}, DONE]
    said = run(
        *("train", "--model", "a", "--data", "notes", "--name", "night", "--auto", "--detach"),
        *("--search-budget-usd", "0.002", "--deadline", "30m", "--levers", "rate,rank"),
        *("--home", str(script.home.folder)),
    )
    assert said.exit_code == 0, said.output
    auto = script.sent[0][1]["auto"]
    assert (auto["price"], auto["budget"], auto["deadline_s"]) == (20_000_000, 2_000_000, 1800.0)
    assert (auto["levers"], auto["finish"]) == (["rate", "rank"], True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--deadline", "30m"), "go with --auto"),
        (("--auto", "--deadline", "soon"), "'soon' is no length of time"),
        (("--auto", "--levers", "rate,luck"), "'luck' is no lever"),
    ],
)
def test_a_wrong_wish_for_a_search_is_a_usage_error(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    said = run("train", "--model", "a", "--data", "b", "--name", "n", *arguments)
    assert said.exit_code == 2
    assert words in said.stderr


def test_options_win_over_the_file(run: Run, script: Script, tmp_path: Path) -> None:
    script.answers = [DONE]
    file = tmp_path / "job.yaml"
    file.write_text("name: night\nmodel: a\ndata: corpus\nepochs: 2\nlora_rank: 8\n")
    said = run(
        *("train", str(file), "--steps", "7", "--model", "b", "--detach", "--json"),
        *("--home", str(script.home.folder)),
    )
    assert said.exit_code == 0, said.output
    ((_, spec),) = script.sent
    assert (spec["base"], spec["steps"], spec["epochs"], spec["lora_rank"]) == ("b", 7, None, 8)
    assert spec["data"] == str(tmp_path / "corpus")


def test_job_is_followed_to_its_end_with_its_cost(run: Run, script: Script) -> None:
    script.answers = [JOB, DONE]
    said = run("jobs", "watch", "night", "--home", str(script.home.folder))
    assert said.exit_code == 0, said.output
    assert "train  3/10  loss 2.5000  held-out 3.0000  300 tokens/s" in said.stderr
    assert "$0.000069444 so far  $0.000162037 to finish" in said.stderr
    assert "held-out loss 3.2500 -> 2.7500, as served 2.7600" in said.stdout
    assert "meted deploy night" in said.stdout


def test_failed_job_is_a_failure_with_its_reason(run: Run, script: Script) -> None:
    script.answers = [FAILED]
    home = str(script.home.folder)
    said = run("train", "--model", "a", "--data", "b", "--name", "night", "--home", home)
    assert said.exit_code == 1
    assert "the data holds 3 tokens" in said.stdout
    assert json.loads(run("jobs", "watch", "night", "--json", "--home", home).stdout) == FAILED


def test_name_alone_shows_the_job_and_its_losses(run: Run, script: Script) -> None:
    script.answers = [{**JOB, "losses": LOSSES}]
    home = str(script.home.folder)
    shown = run("jobs", "night", "--home", home)
    assert shown.exit_code == 0, shown.output
    for words in ("3 of 10, durable 2", "3.2500 (before) -> 3.0000 (now)", "$0.000069444"):
        assert words in shown.stdout
    assert shown.stdout == run("jobs", "--home", home, "show", "night").stdout
    assert json.loads(run("jobs", "--home", home, "--json", "night").stdout) == script.answers[0]


def test_control_verbs_are_passed_on(run: Run, script: Script) -> None:
    script.answers = [JOB]
    for verb in ("pause", "resume", "cancel"):
        assert run("jobs", verb, "night", "--home", str(script.home.folder)).exit_code == 0
    assert [path.rsplit("/", 1)[1] for path, _ in script.sent] == ["pause", "resume", "cancel"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "0"), "steps is 0"),
        (("--steps", "1", "--epochs", "2"), "exactly one"),
        (("--optimizer", "magic"), "adamw"),
        (("--lora-rank", "-1"), "lora_rank is -1"),
    ],
)
def test_wrong_spec_is_a_usage_error_before_the_house_is_asked(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    said = run("train", "--model", "a", "--data", "b", "--name", "n", *arguments)
    assert said.exit_code == 2
    assert words in said.stderr
    said = run("train", "--name", "n")
    assert said.exit_code == 2
    assert "base" in said.stderr
