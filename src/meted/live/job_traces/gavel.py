"""Gavel's traces: tab-separated jobs, and a JSON table of steps per second by kind of GPU."""

import ast
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from meted.domain.allocation import JobOption
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.dollars import shortened
from meted.live.job_traces.errors import JobTraceError
from meted.live.job_traces.traced_job import TracedJob

COLUMNS = (
    "job type", "command", "directory", "step argument", "needs data directory", "total steps",
    "scale factor", "priority weight", "SLO", "arrival (s)",
)  # fmt: skip
"""Of a line, in this order (Narayanan et al. 2020, scheduler/traces)."""
ALONE = "null"
"""The entry of a job that shares its devices with nobody."""
APART = "_unconsolidated"
"""At the end of a kind's name: its GPUs spread over servers."""

Key = tuple[str, int]
GavelThroughputs = Mapping[str, Mapping[Key, float]]
"""Steps per second by kind of GPU and (job type, number of GPUs)."""


class _Line(NamedTuple):
    kind: str
    steps: float
    devices: int
    weight: float
    slo: float
    arrived: float


def read_throughputs(path: Path) -> GavelThroughputs:
    """Steps per second of jobs alone on consolidated GPUs, by kind of GPU.

    Raises JobTraceError naming the file, the entry and what was expected.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobTraceError(f"cannot read {path}: {error.strerror}; check throughputs") from error
    except ValueError as error:
        raise JobTraceError(f"{path} is no JSON: {error}; expected Gavel's throughputs") from error
    if not isinstance(content, dict) or not content:
        raise JobTraceError(f"{path} is no JSON object with kinds of GPUs, Gavel's throughputs")
    found: dict[str, Mapping[Key, float]] = {}
    for kind, rows in cast(dict[str, Any], content).items():
        if not kind.endswith(APART):
            found[kind.lower()] = MappingProxyType(_alone(path, kind, rows))
    return MappingProxyType(found)


def _alone(path: Path, kind: str, rows: Any) -> dict[Key, float]:
    paces: dict[Key, float] = {}
    if not isinstance(rows, dict):
        raise JobTraceError(f"{path}: {kind} is {shortened(rows)}, expected job types")
    for name, beside in cast(dict[str, Any], rows).items():
        try:
            title, devices = ast.literal_eval(name)
            pace = float(beside[ALONE])
        except (ValueError, SyntaxError, TypeError, KeyError):
            raise JobTraceError(
                f"{path}: {kind}, {shortened(name)}: expected ('job type', GPUs) with steps per "
                f"second under {ALONE!r}"
            ) from None
        if not 0 <= pace < math.inf:
            raise JobTraceError(f"{path}: {kind}, {name} does {pace} steps/s, expected 0 or more")
        paces[str(title), int(devices)] = pace
    return paces


def read_gavel(path: Path, throughputs: GavelThroughputs) -> list[TracedJob]:
    """The jobs of a trace in order of arrival.

    A deadline is `SLO` times the job's duration on its fastest kind after its arrival. Kinds that a
    job cannot run on (no memory for it: 0 steps/s) are not among its options.
    Raises JobTraceError naming the line, its value and what was expected.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JobTraceError(f"cannot read {path}: {error}; check --trace") from error
    jobs: list[TracedJob] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            read = _line(path, number, line)
            jobs.append(_job(path, number, read, throughputs))
    if not jobs:
        raise JobTraceError(f"{path} has no job, expected one a line")
    return sorted(jobs, key=lambda one: one.arrived)


def _job(path: Path, number: int, line: _Line, throughputs: GavelThroughputs) -> TracedJob:
    key = line.kind, line.devices
    options = tuple(
        JobOption(kind=kind, devices=line.devices, steps_per_second=paces[key])
        for kind, paces in throughputs.items()
        if paces.get(key, 0.0) > 0
    )
    if not options:
        raise JobTraceError(
            f"{path}, line {number}: {line.kind} on {line.devices} GPUs has no throughput on "
            f"{', '.join(throughputs)}; give the throughputs that belong to this trace"
        )
    arrived = Micros(round(line.arrived * MICROS_PER_SECOND))
    shortest = line.steps / max(one.steps_per_second for one in options)
    deadline = None
    if line.slo > 0:
        deadline = Micros(arrived + round(line.slo * shortest * MICROS_PER_SECOND))
    return TracedJob(
        name=f"job-{number:03}",
        arrived=arrived,
        steps=line.steps,
        options=options,
        title=line.kind,
        weight=line.weight,
        deadline=deadline,
    )


def _line(path: Path, number: int, line: str) -> _Line:
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise JobTraceError(
            f"{path}, line {number} has {len(cells)} cells between tabs, expected "
            f"{len(COLUMNS)}: {', '.join(COLUMNS)}"
        )

    def value(column: str, least: float) -> float:
        text = cells[COLUMNS.index(column)]
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found < math.inf:
            raise JobTraceError(
                f"{path}, line {number}: {column} is {shortened(text)}, expected {least:g} or more"
            )
        return found

    return _Line(
        kind=cells[0],
        steps=value("total steps", 1),
        devices=int(value("scale factor", 1)),
        weight=value("priority weight", 0),
        slo=value("SLO", -1),
        arrived=value("arrival (s)", 0),
    )
