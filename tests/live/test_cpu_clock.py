"""CPU clocks of this and of other processes."""

import os
import subprocess
import sys
import time

import pytest

from meted.live.cpu_clock import own_cpu_nanos, process_cpu_nanos

SPIN = "import time\nwhile time.process_time() < 0.05: pass\nprint('spun', flush=True)\ninput()"


def test_another_process_is_read_on_its_own_clock():
    with subprocess.Popen(
        [sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        assert process_cpu_nanos(child.pid) >= 50_000_000
        child.communicate(b"\n")
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        process_cpu_nanos(pid)


def test_own_clock_and_the_clock_by_process_id_agree():
    before = own_cpu_nanos()
    middle = process_cpu_nanos(os.getpid())
    assert before <= middle <= own_cpu_nanos()
    assert time.process_time_ns() >= middle


def test_a_process_id_must_be_positive():
    with pytest.raises(ValueError, match="pid is 0"):
        process_cpu_nanos(0)
