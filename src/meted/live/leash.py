"""What every worker does first: die with its parent, and cap the thread pools of its libraries."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends (Linux only).

    Elsewhere the closed channel tells.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def cap_threads(threads: int) -> None:
    """Cap thread pools. Call before any library loads: they size their pools when they do."""
    for pool in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        os.environ[f"{pool}_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
