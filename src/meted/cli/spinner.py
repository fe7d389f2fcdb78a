"""A sign of life on standard error while something takes long; silent where nobody looks."""

import contextlib
import sys
from collections.abc import Generator

from rich.console import Console


@contextlib.contextmanager
def spinner(text: str) -> Generator[None]:
    """Show that something goes on, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(text):
        yield
