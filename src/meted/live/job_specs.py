"""Any job's spec from a user's hands: by its kind read, completed and checked."""

from collections.abc import Mapping
from typing import Any

from meted.domain.job import JobKind, JobSpec, TrainingSpec
from meted.domain.levers import parse_lever
from meted.domain.search_job import ServingSearch, VariantSearch
from meted.live.job_checks import check_common, check_keys, check_number, convert, refuse
from meted.live.job_codec import SPECS
from meted.live.training.spec import check_spec, spec_from_mapping
from meted.live.tuning.grid import check_levers

MOST_SEED = 2**63 - 1


def job_spec_from_mapping(mapping: Mapping[str, Any]) -> JobSpec:
    """The checked spec of a decoded JSON body, whose `kind` is `training` where it says none.

    Raises ValueError for an unknown kind or key, a wrong type or a value out of range.
    """
    given = dict(mapping)
    told = given.pop("kind", JobKind.TRAINING)
    if told not in tuple(JobKind):
        refuse("kind", told, f"one of {', '.join(JobKind)}")
    if told == JobKind.TRAINING:
        return spec_from_mapping(given)
    search = SPECS[JobKind(told)]
    check_keys(given, search)
    spec: JobSpec = convert(given, search, strict=True)
    check_job_spec(spec)
    return spec


def check_job_spec(spec: JobSpec) -> None:
    """Whether a job can be run at all, as far as its values tell.

    Raises ValueError with the field, its value and what was expected.
    """
    match spec:
        case TrainingSpec():
            check_spec(spec)
        case VariantSearch():
            check_common(spec)
            _check_variants(spec)
        case ServingSearch():
            check_common(spec)
            _check_serving(spec)
        case _:
            raise TypeError(f"{spec!r} is no spec of a job")


def _check_variants(spec: VariantSearch) -> None:
    if not spec.levers:
        refuse("levers", spec.levers, "one or more, such as int8")
    for name in spec.levers:
        parse_lever(name, training_steps=spec.training_steps)
    check_number("most_loss_increase", spec.most_loss_increase, low=0, high=100)
    check_number("most_accuracy_drop", spec.most_accuracy_drop, low=0, high=1)
    check_number("most_kl", spec.most_kl, low=0, high=100)
    check_number("blocks", spec.blocks, low=20, high=100_000)
    check_number("questions", spec.questions, low=1, high=100_000)
    check_number("training_steps", spec.training_steps, low=1, high=1_000_000)
    check_number("seed", spec.seed, low=0, high=MOST_SEED)


def _check_serving(spec: ServingSearch) -> None:
    if not spec.traffic.strip():
        refuse("traffic", spec.traffic, "house, a trace's path, or rate=1,input=200,output=60")
    if spec.levers is not None:
        check_levers(spec.levers)
    check_number("rate", spec.rate, low=0, high=1e6, open_low=True)
    check_number("requests", spec.requests, low=8, high=1_000_000)
    check_number("effort", spec.effort, low=0.1, high=10_000)
    check_number("budget", spec.budget, low=1, high=2**62)
    check_number("seed", spec.seed, low=0, high=MOST_SEED)
    check_number("slo.ttft_p95", spec.slo.ttft_p95, low=1, high=2**53)
    check_number("slo.tpot_p95", spec.slo.tpot_p95, low=1, high=2**53)
