"""The training that a month must hold beside serving, from a YAML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from meted.domain.catalogue import lookup_device_kind
from meted.live.dollars import shortened
from meted.live.facts import FactError, FactsFile
from meted.live.facts.facts_file import read_mapping
from meted.live.home import Home
from meted.live.planning import training_wish_of
from meted.policy.fleet.plan import InfeasibleError
from meted.policy.fleet.traffic import HOURS_PER_MONTH
from meted.policy.fleet.wish import TrainingWish
from meted.policy.training_planner import plan_training

JOB_KEYS = ("name", "device_hours", "model", "tokens", "devices", "lora", "deadline_hours")


def read_jobs(path: Path, *, home: Home, facts: FactsFile) -> tuple[TrainingWish, ...]:
    """The jobs of a file: `jobs: [{name, device_hours: {kind: hours}, deadline_hours}]`, or with
    `model`, `tokens` and `devices: {kind: count}` instead of device_hours, which are then planned.

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
        _job(f"job {number} of {path}", one, home, facts)
        for number, one in enumerate(cast(list[object], jobs), start=1)
    )


def _job(title: str, given: object, home: Home, facts: FactsFile) -> TrainingWish:
    if not isinstance(given, Mapping):
        raise FactError(f"{title} is {shortened(given)}, expected {', '.join(JOB_KEYS)}")
    job = cast(Mapping[str, Any], given)
    unknown = sorted(set(job) - set(JOB_KEYS))
    if unknown:
        raise FactError(f"{title} has the unknown key {unknown[0]}; expected {', '.join(JOB_KEYS)}")
    name = job.get("name")
    if not isinstance(name, str) or not name.strip():
        raise FactError(f"{title} has the name {shortened(name)}, expected a text")
    if ("device_hours" in job) == ("model" in job):
        raise FactError(f"{title} has device_hours and a model, or neither; give one of them")
    hours = _planned(title, job, home, facts) if "model" in job else _told(title, job, facts)
    deadline = _positive(f"{title}: deadline_hours", job.get("deadline_hours", HOURS_PER_MONTH))
    return TrainingWish(name=name, device_hours=hours, deadline_hours=deadline)


def _told(title: str, job: Mapping[str, Any], facts: FactsFile) -> dict[str, float]:
    """Device-hours as the file says them."""
    return {
        lookup_device_kind(kind, facts.devices).name: _positive(f"{title}: {kind}", value)
        for kind, value in _by_kind(title, job, "device_hours").items()
    }


def _planned(title: str, job: Mapping[str, Any], home: Home, facts: FactsFile) -> dict[str, float]:
    """Device-hours of the run on each of its devices, as `meted plan train` expects them."""
    hours: dict[str, float] = {}
    why = ""
    for kind, count in _by_kind(title, job, "devices").items():
        wish, _ = training_wish_of(
            home=home,
            facts=facts,
            model=str(job["model"]),
            tokens=round(_positive(f"{title}: tokens", job.get("tokens"))),
            devices=((round(_positive(f"{title}: {kind}", count)), kind),),
            prices=None,
            seq=None,
            global_batch=None,
            optimizer="adamw",
            lora=job.get("lora"),
            deadline=None,
            budget=None,
        )
        try:
            hours[wish.choices[0].kind.name] = plan_training(wish).device_hours.expected
        except InfeasibleError as error:
            why = str(error)
    if not hours:
        raise FactError(f"{title} runs on none of its devices: {why}")
    return hours


def _by_kind(title: str, job: Mapping[str, Any], key: str) -> dict[str, object]:
    given = job.get(key)
    if not isinstance(given, Mapping) or not given:
        raise FactError(
            f"{title} has {key} {shortened(given)}, expected numbers by kind of device, such as "
            "{h100-80gb: 8}"
        )
    return {str(kind): value for kind, value in cast(Mapping[object, object], given).items()}


def _positive(what: str, value: object) -> float:
    try:
        number = float(cast(Any, value))
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not number > 0:
        raise FactError(f"{what} is {shortened(value)}, expected a number above 0")
    return number
