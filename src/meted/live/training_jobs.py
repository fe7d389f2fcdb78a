"""The training that a month must hold beside serving, from a YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from meted.domain.catalogue import lookup_device_kind
from meted.live.dollars import shortened
from meted.live.facts import FactError, FactsFile
from meted.live.facts.facts_file import read_mapping
from meted.policy.fleet.traffic import HOURS_PER_MONTH
from meted.policy.fleet.wish import TrainingWish

JOB_KEYS = ("name", "device_hours", "deadline_hours")


def read_jobs(path: Path, facts: FactsFile) -> tuple[TrainingWish, ...]:
    """The jobs of a file `jobs: [{name, device_hours: {kind: hours}, deadline_hours}]`.

    device_hours: what the job takes on each kind that it may run on; `meted plan train` says it.
    Raises FactError naming the job and its value.
    """
    content = read_mapping(path)
    unknown = sorted(set(content) - {"jobs"})
    if unknown:
        raise FactError(f"{path} has the unknown key {unknown[0]}; expected jobs")
    jobs = content.get("jobs")
    if not isinstance(jobs, list) or not jobs:
        raise FactError(f"{path} lists {shortened(jobs)} as jobs, expected one or more")
    return tuple(
        _job(f"job {number} of {path}", one, facts)
        for number, one in enumerate(cast(list[object], jobs), start=1)
    )


def _job(title: str, given: object, facts: FactsFile) -> TrainingWish:
    if not isinstance(given, Mapping):
        raise FactError(f"{title} is {shortened(given)}, expected {', '.join(JOB_KEYS)}")
    job = cast(Mapping[str, Any], given)
    unknown = sorted(set(job) - set(JOB_KEYS))
    if unknown:
        raise FactError(f"{title} has the unknown key {unknown[0]}; expected {', '.join(JOB_KEYS)}")
    name, hours = job.get("name"), job.get("device_hours")
    if not isinstance(name, str) or not name.strip():
        raise FactError(f"{title} has the name {shortened(name)}, expected a text")
    if not isinstance(hours, Mapping) or not hours:
        raise FactError(
            f"{title} has device_hours {shortened(hours)}, expected hours by kind, such as "
            "{h100-80gb: 500}; `meted plan train` tells them"
        )
    found = {
        lookup_device_kind(str(kind), facts.devices).name: _positive(f"{title}: {kind}", value)
        for kind, value in cast(Mapping[object, object], hours).items()
    }
    deadline = _positive(f"{title}: deadline_hours", job.get("deadline_hours", HOURS_PER_MONTH))
    return TrainingWish(name=name, device_hours=found, deadline_hours=deadline)


def _positive(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise FactError(f"{what} is {shortened(value)}, expected hours above 0")
    return float(value)
