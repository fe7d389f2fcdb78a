"""Specs of jobs as JSON, each with its kind: in the store, in a body, on a command line."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from meted.domain.job import Job, JobKind, JobSpec, TrainingSpec
from meted.domain.search_job import ServingSearch, VariantSearch

SPECS: Mapping[JobKind, type[JobSpec]] = {
    one.kind: one for one in (TrainingSpec, VariantSearch, ServingSearch)
}


class _Stored(msgspec.Struct):
    """What tells how to read the rest; before there were searches a job had no kind."""

    spec: msgspec.Raw
    kind: JobKind = JobKind.TRAINING


def spec_mapping(spec: JobSpec) -> dict[str, Any]:
    """A spec as builtins, its kind first."""
    return {"kind": str(spec.kind), **msgspec.to_builtins(spec)}


def spec_json(spec: JobSpec) -> str:
    """A spec with its kind as JSON."""
    return msgspec.json.encode(spec_mapping(spec)).decode()


def spec_of_json(encoded: str | bytes) -> JobSpec:
    """What `spec_json` wrote. Raises msgspec.ValidationError for anything else."""
    mapping: dict[str, Any] = msgspec.json.decode(encoded)
    kind = JobKind(mapping.pop("kind", JobKind.TRAINING))
    return msgspec.convert(mapping, SPECS[kind])


def stored_job(job: Job) -> dict[str, Any]:
    """A job as the store keeps it."""
    return {"kind": str(job.spec.kind), **msgspec.to_builtins(job)}


def job_of_stored(body: bytes | str) -> Job:
    """What `stored_job` made."""
    told = msgspec.json.decode(body, type=_Stored)
    # Read as a `Job` alone, the spec would keep only what all kinds have in common.
    spec = msgspec.json.decode(told.spec, type=SPECS[told.kind])
    return replace(msgspec.json.decode(body, type=Job), spec=spec)
