"""A job's own folder: whose it is, what it has found so far, and its result, each file whole."""

from pathlib import Path
from typing import Any

import msgspec

from meted.domain.job import JobSpec
from meted.live.home import write_private
from meted.live.job_codec import spec_json, spec_of_json
from meted.live.training.errors import TrainingError

RESULT = "result.json"


def claim(workdir: Path, spec: JobSpec) -> None:
    """Note the spec in the job's folder. Raises TrainingError if another spec began there."""
    path = workdir / "spec.json"
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        write_private(path, spec_json(spec).encode())
    elif spec_of_json(path.read_bytes()) != spec:
        raise TrainingError(
            f"{workdir} holds a job that was begun with another spec; choose another name for "
            "this job, or remove that folder"
        )


def write_json(path: Path, content: Any) -> None:
    """Replace a file by this content, or leave it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, msgspec.json.encode(content))


def read_result(workdir: Path) -> Any:
    """What a search has found, JSON-ready; None while there is nothing."""
    try:
        return msgspec.json.decode((workdir / RESULT).read_bytes())
    except FileNotFoundError:
        return None
