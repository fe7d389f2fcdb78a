"""Every trial is written down beside the checkpoints, those most of all that were not let in."""

import time
from pathlib import Path

import msgspec

from meted.domain.variant import LineageStep
from meted.live.checkpoints.lineage import StepOnDisk, encode_lineage
from meted.live.checkpoints.quality import Quality
from meted.live.training.checkpoint import write_whole

RECORDS = ".variants"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trial on disk. seconds: making and measuring; created: Unix seconds."""

    name: str
    lineage: tuple[StepOnDisk, ...]
    weight_bytes: int
    seconds: float
    registered: bool
    quality: Quality
    created: int


def write_record(
    checkpoints: Path,
    *,
    name: str,
    lineage: tuple[LineageStep, ...],
    weight_bytes: int,
    seconds: float,
    registered: bool,
    quality: Quality,
) -> None:
    """Keep the newest trial of a name."""
    record = Record(
        name=name,
        lineage=encode_lineage(lineage),
        weight_bytes=weight_bytes,
        seconds=round(seconds, 3),
        registered=registered,
        quality=quality,
        created=int(time.time()),
    )
    folder = checkpoints / RECORDS
    folder.mkdir(exist_ok=True)
    with write_whole(folder / f"{name}.json") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_records(checkpoints: Path) -> list[Record]:
    """All trials by name. Raises ValueError, naming the file, for one that cannot be read."""
    found: list[Record] = []
    for path in sorted((checkpoints / RECORDS).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Record))
        except msgspec.DecodeError as error:
            raise ValueError(f"{path} cannot be read: {error}; remove it") from error
    return found
