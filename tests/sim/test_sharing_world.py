"""Shared devices in the simulation: serving first, the job what is left, every moment recorded."""

from dataclasses import replace

import pytest
from serving_scenarios import SECOND, make_serving, replica, request

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobOption,
    Plan,
    ReplicaAllocation,
    ReplicaOption,
    Snapshot,
)
from meted.domain.pool import Device
from meted.domain.units import JobName, Micros, TenantName
from meted.policy.allocation import make_policy
from meted.sim.books import account
from meted.sim.result import Result, Use
from meted.sim.scenario import Scenario, SimJob, Table
from meted.sim.world import simulate

PACE = 10.0


class Harvesting:
    """A replica on all devices; the first job has what it leaves of them."""

    def decide(self, snapshot: Snapshot) -> Plan:
        here = snapshot.pool.indices
        return Plan(
            replicas=tuple(
                ReplicaAllocation(deployment=one.deployment, places=(here,), reason="all")
                for one in snapshot.deployments
            ),
            jobs=tuple(
                JobAllocation(
                    job=one.job,
                    devices=here,
                    threads=len(here),
                    harvest=Harvest.IDLE,
                    reason="what is left",
                )
                for one in snapshot.jobs[:1]
            ),
        )


def scenario(policy: str, *, requests: int = 30, horizon: int = 100) -> Scenario:
    """Two cores, a request of two seconds every three, a job that never ends."""
    asked = [request(3 + 3 * i, output=2_000) for i in range(requests)]
    job = SimJob(
        name=JobName("tune"),
        arrived=Micros(0),
        steps=1e6,
        model=Table(
            rows=tuple(
                JobOption(kind="cpu-core", devices=count, steps_per_second=PACE * count)
                for count in (1, 2)
            )
        ),
        tenant=TenantName("lab"),
    )
    base = make_serving(
        asked, policy=make_policy(policy), model=replica(), horizon=horizon * SECOND
    )
    (one,) = base.deployments
    options = tuple(
        ReplicaOption(kind="cpu-core", devices=count, requests_per_second=1.0, load=Micros(0))
        for count in (1, 2)
    )
    models = {("cpu-core", count): replica() for count in (1, 2)}
    deployment = replace(one.deployment, least=1, most=1)
    return replace(
        base,
        pool=replace(base.pool, devices=(Device(index=0), Device(index=1)), shared=True),
        deployments=[replace(one, deployment=deployment, options=options, replicas=models)],
        jobs=[job],
    )


def micros(result: Result, use: Use) -> int:
    return sum(one.ends - one.begins for one in result.segments if one.use is use)


@pytest.mark.parametrize("policy", ["static", "demand", "performance"])
def test_shared_devices_are_recorded_at_every_moment(policy: str) -> None:
    one = scenario(policy)
    result = simulate(one)
    account(result, one.pool)
    (found,) = result.deployments
    assert len(found.served) == 30
    cores = 1 if policy == "static" else 2
    assert micros(result, Use.SERVING) == cores * 30 * 2 * SECOND


def test_job_gets_what_serving_leaves() -> None:
    one = replace(scenario("demand"), policy=Harvesting())
    result = simulate(one)
    whole = 2 * 100 * SECOND
    assert micros(result, Use.SERVING) == 2 * 30 * 2 * SECOND
    assert micros(result, Use.TRAINING) == whole - micros(result, Use.SERVING)
    (job,) = result.jobs
    assert job.attained == pytest.approx(micros(result, Use.TRAINING), rel=1e-3)


def test_job_with_devices_of_its_own_has_all_of_them() -> None:
    result = simulate(scenario("static"))
    assert micros(result, Use.TRAINING) == 100 * SECOND
    (job,) = result.jobs
    assert job.attained == 100 * SECOND


def test_without_requests_the_job_has_everything() -> None:
    result = simulate(scenario("demand", requests=0, horizon=20))
    assert micros(result, Use.TRAINING) == 2 * 20 * SECOND
