"""A worker that starts processes of its own is metered, placed, stopped and killed with them."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from meted.live.cpu_clock import family_cpu_nanos, family_of, process_cpu_nanos
from meted.live.host import Urgency, WorkerEnd, WorkerSpec
from meted.live.local_host import LocalHost, LocalWorker
from meted.live.wire import FromTrainer

SPIN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"
MOTHER = f"""
import subprocess, sys, time
subprocess.run([sys.executable, "-c", {SPIN.format(seconds=0.3)!r}], check=True)
child = subprocess.Popen([sys.executable, "-c", {SPIN.format(seconds=60)!r}])
print(child.pid, file=open(sys.argv[1], "w"), flush=True)
time.sleep(60)
"""


@dataclass
class Mother:
    worker: LocalWorker
    child: int
    ended: "asyncio.Future[WorkerEnd]"


@asynccontextmanager
async def started(folder: Path, *, family: bool) -> AsyncGenerator[Mother]:
    """A process whose first child has ended after 0.3 s of computing, and whose second computes."""
    ended: asyncio.Future[WorkerEnd] = asyncio.get_running_loop().create_future()
    spec = WorkerSpec(
        id="mother",
        arguments=("-c", MOTHER, str(folder / "child")),
        devices=(0,),
        urgency=Urgency.NORMAL,
        incoming=FromTrainer,
        family=family,
    )
    worker = await LocalHost(folder / "logs").start(spec, lambda message: None, ended.set_result)
    await until(lambda: (folder / "child").exists() and (folder / "child").read_text() != "")
    child = int((folder / "child").read_text())
    try:
        yield Mother(worker, child, ended)
    finally:
        worker.kill()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        await ended


async def until(true: Callable[[], bool], patience_s: float = 30.0) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)


async def test_a_familys_clock_counts_children_that_run_and_that_have_ended(
    tmp_path: Path,
) -> None:
    async with started(tmp_path, family=True) as one:
        worker, child = one.worker, one.child
        await until(lambda: process_cpu_nanos(child) > 200_000_000)
        own, young = process_cpu_nanos(worker.pid), process_cpu_nanos(child)
        assert set(family_of(worker.pid)) == {worker.pid, child}
        # The first child's 0.3 s are told in units of 10 ms.
        assert worker.cpu_nanos() >= own + young + 280_000_000


async def test_a_clock_never_goes_back_when_children_end(tmp_path: Path) -> None:
    async with started(tmp_path, family=True) as one:
        await until(lambda: process_cpu_nanos(one.child) > 100_000_000)
        before = one.worker.cpu_nanos()
        os.kill(one.child, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert one.worker.cpu_nanos() >= before
        one.worker.kill()
        assert (await one.ended).cpu_nanos >= before


async def test_standing_still_and_going_on_are_for_the_whole_family(tmp_path: Path) -> None:
    async with started(tmp_path, family=True) as one:
        worker, child = one.worker, one.child
        worker.freeze()
        await until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED)
        assert psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED
        still = family_cpu_nanos(worker.pid)
        await asyncio.sleep(0.2)
        assert family_cpu_nanos(worker.pid) == still
        worker.thaw()
        await until(lambda: family_cpu_nanos(worker.pid) > still)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
async def test_devices_and_urgency_are_for_the_whole_family(tmp_path: Path) -> None:
    async with started(tmp_path, family=True) as one:
        worker, child = one.worker, one.child
        last = max(os.sched_getaffinity(0))
        worker.place((last,), Urgency.IDLE)
        assert os.sched_getaffinity(child) == {last}
        assert os.sched_getscheduler(child) == os.SCHED_IDLE
        worker.place((0,), Urgency.NORMAL)
        assert (os.sched_getaffinity(child), os.sched_getscheduler(child)) == ({0}, 0)


async def test_a_lone_worker_is_not_asked_for_children(tmp_path: Path) -> None:
    """A trainer has none, and its clock is read too often for a look at them."""
    async with started(tmp_path, family=False) as one:
        worker, child = one.worker, one.child
        await until(lambda: process_cpu_nanos(child) > 200_000_000)
        assert worker.cpu_nanos() < 200_000_000 + process_cpu_nanos(worker.pid)
        worker.freeze()
        assert psutil.Process(child).status() != psutil.STATUS_STOPPED


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="no idle class on this system")
async def test_a_host_that_does_not_place_leaves_a_worker_as_its_starter_is(tmp_path: Path) -> None:
    """What a search starts runs where the house put the search, and no more urgently."""
    script = """
import asyncio, os, sys
from pathlib import Path
from meted.live.host import Urgency, WorkerSpec
from meted.live.local_host import LocalHost
from meted.live.wire import FromTrainer

async def main():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    spec = WorkerSpec(id="w", arguments=("-c", "import time; time.sleep(30)"), devices=(0,),
                      urgency=Urgency.NORMAL, incoming=FromTrainer)
    ended = asyncio.Event()
    worker = await LocalHost(Path(sys.argv[1]), places=False).start(
        spec, lambda message: None, lambda end: ended.set())
    print(os.sched_getscheduler(worker.pid))
    worker.kill()
    await ended.wait()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert int(told) == os.SCHED_IDLE
