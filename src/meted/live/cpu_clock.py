"""CPU clocks of whole processes, all threads together: what device time is read from."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


def own_cpu_nanos() -> int:
    """CPU time that this process has used so far, in nanoseconds."""
    return time.process_time_ns()


def process_cpu_nanos(pid: int) -> int:
    """CPU time that another process has used so far, in nanoseconds.

    On Linux the process's own clock, which `clock_getcpuclockid(3)` derives from its id and which
    counts every nanosecond. Elsewhere what the system tells, in coarser units.
    Raises ProcessLookupError when the process is gone.
    """
    if pid <= 0:
        raise ValueError(f"pid is {pid}, expected a positive number")
    if sys.platform == "linux":
        try:
            return time.clock_gettime_ns(((~pid) << 3) | 2)
        except OSError as error:
            raise ProcessLookupError(f"process {pid} is gone") from error
    try:
        times = psutil.Process(pid).cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied) as error:
        raise ProcessLookupError(f"process {pid} is gone") from error
    return round((times.user + times.system) * 1e9)


def family_of(pid: int) -> list[int]:
    """A process and all that it started, and those started, as far as they live: itself first.

    On Linux each thread's list of children, where psutil would read every process of the machine.
    """
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def family_cpu_nanos(pid: int) -> int:
    """CPU time of a process and of all that it started, ended ones too once they are waited for.

    The ended come first: one that ends meanwhile is missed for once, never counted twice. Theirs is
    read in the system's units of 10 ms or so, so that a reading may be a little behind.
    Raises ProcessLookupError when the process is gone.
    """
    family = family_of(pid)
    total = sum(_ended_children_nanos(member) for member in family) + process_cpu_nanos(pid)
    for member in family[1:]:
        with suppress(ProcessLookupError):
            total += process_cpu_nanos(member)
    return total


def _children(pid: int) -> list[int]:
    if sys.platform == "linux":
        found: list[int] = []
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (thread / "children").read_text().split())
        return found
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _ended_children_nanos(pid: int) -> int:
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return round((times.children_user + times.children_system) * 1e9)
    return 0
