"""Keeps what a library writes past Python out of a verb's answer."""

import contextlib
import os
import sys
from collections.abc import Generator


@contextlib.contextmanager
def standard_output_kept() -> Generator[None]:
    """Send what C code writes to standard output to standard error meanwhile.

    HiGHS now and then prints a line of its own there, which would spoil JSON.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
