"""kill -9 of any process at any moment: the books balance, nobody pays twice or waits forever."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from meted.testing.house import RealHouse

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"


def client(house: RealHouse) -> openai.OpenAI:
    return house.openai()


def pid_of_replica(house: RealHouse) -> int | None:
    replicas = house.admin("status")["deployments"][0]["replicas"]
    ready = [replica["pid"] for replica in replicas if replica["status"] == "ready"]
    return ready[0] if ready else None


def long_stream(house: RealHouse) -> Any:
    return client(house).chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell a very long story."}],
        max_tokens=600,
        stream=True,
        extra_body={"ignore_eos": True},
    )


def requests_in_the_books(house: RealHouse) -> list[dict[str, Any]]:
    return json.loads(house.meted("bill", "--by", "request", "--json"))["rows"]


def corpus(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text("\n\n".join(f"Entry {n}: the river runs past house {n}." for n in range(600)))
    return path


def test_a_killed_replica_is_replaced_and_its_clients_are_told(own_house: RealHouse) -> None:
    house = own_house.start()
    stream = long_stream(house)
    seen = 0
    with pytest.raises(openai.APIError, match="died"):
        for _ in stream:
            seen += 1
            if seen == 3:
                pid = pid_of_replica(house)
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
    answer = client(house).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say yes."}], max_tokens=4
    )
    assert answer.choices[0].message.content
    house.stop()
    house.meted("bill", "--check")
    assert len({row["request"] for row in requests_in_the_books(house)}) == len(
        requests_in_the_books(house)
    )


def test_a_request_that_waits_for_a_killed_replica_is_answered_by_the_next(
    own_house: RealHouse,
) -> None:
    house = own_house.start()
    pid = pid_of_replica(house)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    answers: list[str | None] = []

    def ask() -> None:
        answer = client(house).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Say yes."}], max_tokens=4
        )
        answers.append(answer.choices[0].message.content)

    asking = threading.Thread(target=ask)
    asking.start()
    house.wait_until(
        "the request is on the replica",
        lambda: house.admin("status")["deployments"][0]["running"] == 1,
    )
    os.kill(pid, signal.SIGKILL)
    asking.join(timeout=60)
    assert answers and answers[0]
    house.stop()
    house.meted("bill", "--check")


def test_a_killed_trainer_resumes_is_served_and_its_lost_work_is_booked_as_lost(
    own_house: RealHouse, tmp_path: Path
) -> None:
    house = own_house.start()
    house.meted(
        *("train", "--model", MODEL, "--data", str(corpus(tmp_path)), "--name", "kill-me"),
        *("--steps", "10", "--sequence-tokens", "64", "--batch-tokens", "128"),
        *("--checkpoint-every", "4", "--eval-every", "100", "--detach"),
    )
    house.wait_until(
        "the first checkpoint and one more step",
        lambda: house.admin("jobs/kill-me")["step"] >= 5,
        patience_s=120,
    )
    job = house.admin("jobs/kill-me")
    os.kill(job["pid"], signal.SIGKILL)
    house.wait_until(
        "the job is done",
        lambda: house.admin("jobs/kill-me")["status"] in ("done", "failed"),
        patience_s=180,
    )
    job = house.admin("jobs/kill-me")
    assert job["status"] == "done", job["error"]
    steps = [loss["step"] for loss in job["losses"] if loss["when"] == "train"]
    assert set(range(1, 11)) <= set(steps)
    house.meted("deploy", "kill-me")
    answer = client(house).chat.completions.create(
        model="kill-me", messages=[{"role": "user", "content": "Say yes."}], max_tokens=4
    )
    assert answer.choices[0].message.content
    house.stop()
    house.meted("bill", "--check")
    kinds = json.loads(house.meted("bill", "--by", "kind", "--json"))["rows"]
    spent = {row["kind"]: row["nano_usd"] for row in kinds}
    assert spent["lost"] > 0
    assert spent["training"] > spent["lost"]


def test_a_killed_house_leaves_no_process_and_books_that_balance(
    own_house: RealHouse, tmp_path: Path
) -> None:
    house = own_house.start()
    house.meted(
        *("train", "--model", MODEL, "--data", str(corpus(tmp_path)), "--name", "survivor"),
        *("--steps", "500", "--sequence-tokens", "64", "--batch-tokens", "128", "--detach"),
    )
    house.wait_until("training", lambda: house.admin("jobs/survivor")["step"] >= 2, patience_s=120)
    answered = client(house).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say yes."}], max_tokens=4
    )
    assert answered.id
    stream = long_stream(house)
    next(iter(stream))
    assert house.process is not None
    children = psutil.Process(house.process.pid).children(recursive=True)
    assert len(children) >= 2
    house.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    house.start()
    house.wait_until(
        "the job goes on",
        lambda: house.admin("jobs/survivor")["status"] == "running",
        patience_s=120,
    )
    house.admin("jobs/survivor/cancel", "POST")
    house.stop()
    house.meted("bill", "--check")
    kinds = {
        row["kind"]: row["nano_usd"]
        for row in json.loads(house.meted("bill", "--by", "kind", "--json"))["rows"]
    }
    assert kinds["lost"] > 0
