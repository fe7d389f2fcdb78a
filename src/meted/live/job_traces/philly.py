"""Philly's jobs from a CSV: timestamp, duration, num_gpus, cluster (Jeon et al. 2019)."""

import csv
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from meted.domain.allocation import JobOption
from meted.domain.units import MICROS_PER_SECOND, Micros, TenantName
from meted.live.dollars import shortened
from meted.live.job_traces.errors import JobTraceError
from meted.live.job_traces.traced_job import TracedJob

COLUMNS = ("timestamp", "duration", "num_gpus", "cluster")
WEEK = 7 * 86_400
_SCATTER = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio: multiples of it spread evenly (Knuth, multiplicative hashing)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhillyPart:
    """Which jobs to take. week: 0 is the one in which the first job came; None: all. cluster: its
    name, None: all. share: of these jobs, spread evenly over them. most_gpus: wider jobs are left
    out."""

    week: int | None = None
    cluster: str | None = None
    share: float = 1.0
    most_gpus: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise JobTraceError(f"share is {self.share}, expected more than 0 and 1 at most")
        if self.week is not None and self.week < 0:
            raise JobTraceError(f"week is {self.week}, expected 0 for the first or more")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    at: float
    seconds: float
    gpus: int
    cluster: str


def read_philly(path: Path, part: PhillyPart = PhillyPart()) -> list[TracedJob]:
    """The jobs of that part in order of arrival, the first at moment 0.

    The trace knows durations, not speeds: a job's steps are its seconds on as many devices as it
    had, one a second, on every kind. Its cluster is its tenant.
    Raises JobTraceError naming the line, its value and what was expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(_rows(path, lines))
    except (OSError, UnicodeDecodeError) as error:
        raise JobTraceError(f"cannot read {path}: {error}; check --trace") from error
    if not rows:
        raise JobTraceError(f"{path} has no job, expected one a line")
    chosen = _chosen(path, rows, part)
    first = chosen[0].at
    return [
        TracedJob(
            name=f"job-{row.line:05}",
            arrived=Micros(round((row.at - first) * MICROS_PER_SECOND)),
            steps=row.seconds,
            options=(JobOption(kind="", devices=row.gpus, steps_per_second=1.0),),
            tenant=TenantName(row.cluster),
        )
        for row in chosen
    ]


def _chosen(path: Path, rows: list[_Row], part: PhillyPart) -> list[_Row]:
    clusters = Counter(row.cluster for row in rows)
    if part.cluster is not None and part.cluster not in clusters:
        known = ", ".join(name for name, _ in clusters.most_common(8))
        raise JobTraceError(f"{path} has no cluster {part.cluster!r}; its largest are {known}")
    begin = min(row.at for row in rows)
    kept = [
        row
        for row in sorted(rows, key=lambda row: (row.at, row.line))
        if (part.cluster is None or row.cluster == part.cluster)
        and (part.week is None or int((row.at - begin) // WEEK) == part.week)
        and (part.most_gpus is None or row.gpus <= part.most_gpus)
        and ((row.line * _SCATTER) % 2**64) < part.share * 2**64
    ]
    if not kept:
        weeks = int((max(row.at for row in rows) - begin) // WEEK)
        raise JobTraceError(
            f"{path} has no job in this part; its weeks are 0 to {weeks}, it has {len(rows)} jobs"
        )
    return kept


def _rows(path: Path, lines: Iterator[str]) -> Iterator[_Row]:
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise JobTraceError(
            f"{path} lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}"
        )
    for number, row in enumerate(reader, start=2):
        try:
            at = (datetime.fromisoformat(row["timestamp"]) - _EPOCH).total_seconds()
        except (TypeError, ValueError):
            raise _wrong(
                path, number, "timestamp", row["timestamp"], "2017-10-09 07:01:55"
            ) from None
        seconds = _number(path, number, "duration", row["duration"])
        gpus = _number(path, number, "num_gpus", row["num_gpus"])
        if gpus != int(gpus):
            raise _wrong(path, number, "num_gpus", row["num_gpus"], "a whole number")
        yield _Row(number, at, seconds, int(gpus), row["cluster"])


_EPOCH = datetime(1970, 1, 1)


def _number(path: Path, number: int, column: str, text: str | None) -> float:
    try:
        found = float(text or "")
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise _wrong(path, number, column, text, "a number above 0")
    return found


def _wrong(path: Path, number: int, column: str, value: object, expected: str) -> JobTraceError:
    return JobTraceError(
        f"{path}, line {number}: {column} is {shortened(value)}, expected {expected}"
    )
