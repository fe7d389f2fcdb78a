"""Reads profiles and workloads in the format of Pollux's artifact (petuum/adaptdl)."""

import csv
from dataclasses import dataclass
from pathlib import Path

from meted.predict.training.elastic import ElasticProfile, EpochSample, StepSample
from meted.predict.training.statistical import GradientNoise

MOST_LOCAL = {"yolov3": 8}
"""Largest batch on one device where it is less than what was profiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolluxJob:
    """A line of a workload. seconds: its submission; devices, batch: what its user asked for."""

    name: str
    seconds: float
    application: str
    devices: int
    batch: int


def read_workload(path: Path) -> tuple[PolluxJob, ...]:
    """Jobs of a workload. Raises ValueError with the line for a value that cannot be read."""
    found: list[PolluxJob] = []
    for number, row in enumerate(_rows(path), start=2):
        try:
            found.append(
                PolluxJob(
                    name=row["name"],
                    seconds=float(row["time"]),
                    application=row["application"],
                    devices=int(row["num_replicas"]),
                    batch=int(row["batch_size"]),
                )
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path.name} line {number} is {row}, expected name, time, application, "
                "num_replicas, batch_size; correct the line"
            ) from error
    return tuple(found)


def read_profile(folder: Path) -> ElasticProfile:
    """An application's profile. Raises FileNotFoundError if its files are missing."""
    epochs: dict[int, list[EpochSample]] = {}
    for path in sorted(folder.glob("validation-*.csv")):
        epochs[int(path.stem.removeprefix("validation-"))] = [
            EpochSample(
                progress=float(row["progress"]),
                noise=GradientNoise(
                    squared=float(row["grad_sqr"]), variance=float(row["grad_var"])
                ),
            )
            for row in _rows(path)
        ]
    if not epochs:
        raise FileNotFoundError(f"{folder} holds no validation-*.csv; name a profile's folder")
    shortest = min(len(rows) for rows in epochs.values())
    steps = [_step(row, row["placement"]) for row in _rows(folder / "placements.csv")]
    local = [int(one.local_batch) for one in steps]
    steps += [_step(row, "") for row in _rows(folder / "scalability.csv")]
    return ElasticProfile(
        name=folder.name,
        steps=steps,
        epochs={batch: rows[:shortest] for batch, rows in sorted(epochs.items())},
        least_local=min(local),
        most_local=MOST_LOCAL.get(folder.name, max(local)),
    )


def _step(row: dict[str, str], placement: str) -> StepSample:
    shape = tuple(int(one) for one in placement)
    return StepSample(
        placement=shape,
        nodes=len(shape) or int(row["num_nodes"]),
        devices=sum(shape) or int(row["num_replicas"]),
        local_batch=float(row["local_bsz"]),
        step_seconds=float(row["step_time"]),
        sync_seconds=float(row["sync_time"]),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
