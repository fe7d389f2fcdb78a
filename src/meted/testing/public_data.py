"""Where the public traces are that some tests and benchmarks read; they are not in the project."""

import os
from pathlib import Path


class NoDataError(LookupError):
    """The public data is not on this machine."""


def data_folder(name: str) -> Path:
    """The folder `name` of the public data, in METED_DATA or beside the project.

    Raises NoDataError with a sentence that says what is missing.
    """
    base = os.environ.get("METED_DATA")
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    folder = (Path(base) if base else beside) / name
    if not folder.is_dir():
        raise NoDataError(f"the public data {folder} is not here; set METED_DATA to its parent")
    return folder
