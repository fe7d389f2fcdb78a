"""CPU clocks of whole processes, all threads together: what device time is read from."""

import sys
import time

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
