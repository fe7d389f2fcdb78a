"""The replica's process, as the house sees it: through the socket, with a fake engine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import EmbeddingPrompt, EngineRequest, FinishReason, Sampling, TextPrompt
from meted.domain.units import RequestId
from meted.live.replica_worker import load_engine
from meted.live.wire import (
    Admitted,
    Cancel,
    Channel,
    Failed,
    FromReplica,
    Ready,
    Rejected,
    Stepped,
    Stop,
    to_add,
)
from meted.testing.fake_engine import SETTINGS, FakeSettings

FAKE = "meted.testing.fake_engine:FakeEngine"
LONG = Sampling(max_tokens=4000, temperature=0.0)


class House:
    """The other end: a worker's process and the channel to it."""

    def __init__(self, folder: Path, engine: str = FAKE) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "meted.live.replica_worker"),
                    *("--fd", str(theirs.fileno()), "--engine", engine),
                    *("--folder", str(folder), "--threads", "1", "--max-batch", "4"),
                ],
                pass_fds=(theirs.fileno(),),
            )
        self.socket = ours
        self.channel = Channel(ours, FromReplica)
        self._queue: list[Any] = []

    def add(self, request_id: str, text: str = "one two three", sampling: Sampling = LONG) -> None:
        prompt = TextPrompt(text=text)
        request = EngineRequest(request_id=RequestId(request_id), prompt=prompt, sampling=sampling)
        self.channel.send([to_add(request)])

    def next(self) -> Any:
        while not self._queue:
            assert not self.channel.closed, "the worker has gone"
            self._queue += self.channel.receive(block=True)
        return self._queue.pop(0)

    def until_end(self, request_id: str) -> list[Any]:
        """All messages up to the one that ends the request."""
        seen: list[Any] = []
        while True:
            seen.append(self.next())
            outputs = seen[-1].outputs if isinstance(seen[-1], Stepped) else ()
            if any(one.request_id == request_id and one.finish_reason for one in outputs):
                return seen


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    houses: list[House] = []

    def begin(engine: str = FAKE, **settings: Any) -> House:
        (tmp_path / SETTINGS).write_bytes(msgspec.json.encode(FakeSettings(**settings)))
        houses.append(House(tmp_path, engine))
        return houses[-1]

    yield begin
    for house in houses:
        house.socket.close()
        house.process.kill()
        house.process.wait()


def test_a_request_is_admitted_stepped_and_ended(start: Any):
    house = start()
    ready = house.next()
    assert isinstance(ready, Ready) and (ready.task, ready.max_batch) == ("generate", 4)
    house.add("r", sampling=Sampling(max_tokens=5, temperature=0.0))
    admitted, *steps = house.until_end("r")
    assert admitted == Admitted("r", 3)
    shares = [share for step in steps for share in step.shares]
    assert sum(share.prefill_tokens for share in shares) == 3
    assert sum(share.decode_tokens for share in shares) == 5
    assert steps[-1].outputs[-1].finish_reason is FinishReason.LENGTH


def test_steps_cover_the_cpu_clock_without_a_gap(start: Any):
    house = start(prefill_us_per_token=200, decode_us=200)
    covered = house.next().cpu_ns
    for name in ("a", "b"):
        house.add(name, sampling=Sampling(max_tokens=20, temperature=0.0))
        for message in house.until_end(name):
            if isinstance(message, Stepped):
                assert message.cpu_start_ns == covered
                assert message.cpu_end_ns - covered >= 200_000
                covered = message.cpu_end_ns


def test_a_cancelled_request_ends_within_a_step(start: Any):
    house = start(decode_us=500)
    house.next()
    house.add("r")
    assert house.next() == Admitted("r", 3)
    house.channel.send([Cancel("r"), Cancel("unknown")])
    last = house.until_end("r")[-1]
    assert last.outputs[-1].finish_reason is FinishReason.CANCELLED
    assert last.shares == ()


def test_a_request_that_cannot_be_answered_is_rejected_with_its_field(start: Any):
    house = start(context_tokens=8)
    house.next()
    house.add("r", text="word " * 9)
    rejected = house.next()
    assert isinstance(rejected, Rejected)
    assert (rejected.request_id, rejected.param) == ("r", "prompt")
    assert rejected.code == "context_length_exceeded"
    prompt = EmbeddingPrompt(texts=("a",))
    house.channel.send([to_add(EngineRequest(request_id=RequestId("e"), prompt=prompt))])
    assert isinstance(house.next(), Rejected)


def test_stop_ends_it_in_order_and_a_signal_for_the_house_does_not(start: Any):
    house = start()
    house.next()
    house.process.send_signal(signal.SIGINT)
    house.add("r", sampling=Sampling(max_tokens=1, temperature=0.0))
    house.until_end("r")
    house.channel.send([Stop()])
    assert house.process.wait(timeout=20) == 0


def test_it_ends_when_the_house_closes_even_in_mid_request(start: Any):
    house = start(decode_us=200)
    house.next()
    house.add("r")
    house.next()
    house.socket.close()
    assert house.process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("openvino", "cannot load"),
        ("nonsense", "use openvino, llamacpp, embedding or a factory as module:Name"),
    ],
)
def test_an_engine_that_cannot_load_says_why(start: Any, engine: str, told: str):
    house = start(engine)
    failed = house.next()
    assert isinstance(failed, Failed) and told in failed.message
    assert house.process.wait(timeout=20) == 1


def test_an_engine_that_breaks_says_why(start: Any):
    house = start(fail_after_steps=2)
    house.next()
    house.add("r")
    messages = [house.next() for _ in range(4)]
    assert isinstance(messages[-1], Failed)
    assert house.process.wait(timeout=20) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_it_dies_with_its_parent(tmp_path: Path):
    code = (
        "import os, subprocess, sys, time\n"
        "from meted.live.leash import die_with_parent\n"
        "child = 'from meted.live.leash import die_with_parent; import time;'\\\n"
        "    'die_with_parent(); print(\"tied\", flush=True); time.sleep(60)'\n"
        "one = subprocess.Popen([sys.executable, '-c', child], stdout=subprocess.PIPE)\n"
        "one.stdout.readline(); print(one.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20)
    pid = int(done.stdout)
    for _ in range(100):
        if not _alive(pid):
            return
        signal.sigtimedwait([], 0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the orphan lives on")


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def test_settings_that_a_factory_does_not_take_are_refused_by_key(tmp_path: Path):
    (tmp_path / SETTINGS).write_bytes(msgspec.json.encode(FakeSettings()))
    given = {"folder": tmp_path, "threads": 1, "max_batch": 2}
    load_engine(FAKE, settings=EngineSettings(engine=FAKE, threads=1), **given)
    with pytest.raises(ValueError, match=r"^chunk_tokens is 64"):
        load_engine(FAKE, settings=EngineSettings(engine=FAKE, chunk_tokens=64), **given)
