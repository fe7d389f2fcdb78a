"""Specs of jobs of every kind: read, refused with a reason, kept and found again."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from meted.domain.deployment import SLO
from meted.domain.job import AutoTraining, Job, JobKind, JobSpec, JobStatus
from meted.domain.search_job import ServingSearch, VariantSearch
from meted.domain.units import JobName, Micros, NanoUSD, TenantName
from meted.live.job_codec import SPECS, job_of_stored, spec_json, spec_of_json, stored_job
from meted.live.job_specs import job_spec_from_mapping
from meted.testing.builders import make_spec

COMMON: dict[str, Any] = {
    "name": JobName("one"),
    "base": "smollm2-135m",
    "data": "/notes",
    "tenant": TenantName("acme"),
}
EACH: list[JobSpec] = [
    replace(make_spec(), auto=AutoTraining(budget=NanoUSD(7))),
    VariantSearch(**COMMON, levers=("int8", "layers-10%+int4-g64"), most_kl=0.1, keep=True),
    ServingSearch(
        **COMMON,
        traffic="house",
        slo=SLO(ttft_p95=Micros(900_000), tpot_p95=Micros(70_000)),
        variants=(),
        budget=NanoUSD(2_000),
    ),
]


@pytest.mark.parametrize("spec", EACH, ids=lambda one: str(one.kind))
def test_a_spec_is_the_same_after_any_journey(spec: JobSpec) -> None:
    assert spec_of_json(spec_json(spec)) == spec
    job = Job(spec=spec, status=JobStatus.PAUSED, devices=(0, 1), held="no money")
    assert job_of_stored(msgspec.json.encode(stored_job(job))) == job
    assert job_spec_from_mapping(json.loads(spec_json(spec))) == spec


def test_every_kind_has_its_spec() -> None:
    assert set(SPECS) == set(JobKind) == {one.kind for one in EACH}


def test_a_job_from_before_there_were_searches_is_a_training() -> None:
    job = Job(spec=make_spec(), status=JobStatus.DONE)
    old = stored_job(job)
    del old["kind"]
    assert job_of_stored(json.dumps(old)) == job


def test_what_is_left_out_has_defaults() -> None:
    given = {"name": "one", "base": "smollm2-135m", "data": "/notes"}
    found = job_spec_from_mapping({**given, "kind": "variants"})
    assert found == VariantSearch(**{**COMMON, "tenant": TenantName("default")})
    found = job_spec_from_mapping({**given, "kind": "serving", "traffic": "house"})
    assert isinstance(found, ServingSearch) and found.levers is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "dance"}, "kind is 'dance', expected one of training, variants, serving"),
        ({"lever": ["int8"]}, "unknown key 'lever' in a variants spec; did you mean 'levers'"),
        ({"base": None}, "a variants spec needs base"),
        ({"levers": []}, "levers is (), expected one or more"),
        ({"levers": ["int5"]}, "'int5'"),
        ({"blocks": 3}, "blocks is 3, expected at least 20"),
        ({"most_loss_increase": -0.1}, "most_loss_increase is -0.1, expected at least 0"),
        ({"most_kl": "much"}, "wrong value in a variants spec"),
        ({"seed": True}, "wrong value in a variants spec"),
        ({"name": "../x"}, "name is '../x', expected 1 to 64 letters"),
        ({"kind": "serving", "levers": None}, "a serving spec needs traffic"),
        ({"kind": "serving", "traffic": " ", "levers": None}, "traffic is ' ', expected house"),
        ({"kind": "serving", "traffic": "house", "levers": ["luck"]}, "no lever 'luck'"),
        ({"kind": "serving", "traffic": "house", "levers": None, "rate": 0}, "rate is 0.0"),
        ({"kind": "serving", "traffic": "house", "levers": None, "requests": 2}, "at least 8"),
        ({"kind": "serving", "traffic": "house", "levers": None, "budget": 0}, "budget is 0"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(
    change: dict[str, Any], told: str
) -> None:
    good = {"kind": "variants", **COMMON, "levers": ["int8"]}
    with pytest.raises(ValueError) as refused:
        job_spec_from_mapping({**good, **change})
    assert told in str(refused.value)
