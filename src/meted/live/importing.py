"""Importing a checkpoint in a process of its own, metered like any other worker."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from meted.domain.line import Account, Kind
from meted.domain.units import DeploymentName, DeviceNanos
from meted.live.cpu_clock import process_cpu_nanos
from meted.live.doors import HouseError
from meted.live.metering import Metering

OnProgress = Callable[[str], None]


async def import_checkpoint(
    *,
    metering: Metering,
    folder: Path,
    name: str,
    path: str | None,
    on_progress: OnProgress,
) -> None:
    """Make a checkpoint ready to be served: a built-in by name, or what lies at `path`.

    Its device time is booked as loading. Raises HouseError (400) with the importer's own sentence.
    """
    source = ["--builtin"] if path is None else ["--path", path]
    command = [sys.executable, "-m", "meted.live.checkpoints", "import", "--name", name, *source]
    process = subprocess.Popen(
        [*command, "--folder", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
    )
    worker = f"import-{name}-{process.pid}"
    account = Account(kind=Kind.LOADING, deployment=DeploymentName(name), note="import")
    last = DeviceNanos(0)

    def clock() -> DeviceNanos:
        nonlocal last
        with contextlib.suppress(ProcessLookupError):
            last = DeviceNanos(max(last, process_cpu_nanos(process.pid)))
        return last

    metering.worker_started(worker, account, clock)
    loop = asyncio.get_running_loop()

    def follow() -> tuple[DeviceNanos, str | None]:
        error: str | None = "the importer ended without a word"
        assert process.stdout is not None
        for raw in process.stdout:
            said = _parse(raw)
            if "progress" in said:
                loop.call_soon_threadsafe(on_progress, str(said["progress"]))
            elif "checkpoint" in said:
                error = None
            elif "error" in said:
                error = str(said["error"])
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        return DeviceNanos(round((usage.ru_utime + usage.ru_stime) * 1e9)), error

    used, error = await asyncio.to_thread(follow)
    metering.worker_ended(worker, DeviceNanos(max(used, last)), account)
    if error is not None:
        raise HouseError(error, status=400, type="invalid_request_error", param="checkpoint")


def _parse(raw: bytes) -> dict[str, Any]:
    """One JSON object a line; libraries that print to the same stream are not for us."""
    try:
        said = json.loads(raw)
    except ValueError:
        return {}
    return cast(dict[str, Any], said) if isinstance(said, dict) else {}
