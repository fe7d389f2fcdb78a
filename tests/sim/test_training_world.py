"""Simulated training: paces come true, restarts cost, failures fall back, money adds up."""

import itertools
from dataclasses import dataclass

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobOption,
    Plan,
    Snapshot,
    Waiting,
)
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import JobName, Micros, NanoUSD
from meted.policy.placement import Placer
from meted.sim.result import Result, Use
from meted.sim.scenario import Outage, Scenario, SimJob, Table
from meted.sim.world import simulate

SECOND = 1_000_000
PRICE = Price(nano_usd_per_device_hour=NanoUSD(3_600_000_000), idle=NanoUSD(360_000_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest job first: it takes devices from older ones."""

    def decide(self, snapshot: Snapshot) -> Plan:
        placer = Placer(snapshot)
        jobs: list[JobAllocation] = []
        waiting: list[Waiting] = []
        for job in sorted(snapshot.jobs, key=lambda one: -one.order):
            old = snapshot.previous.job(job.job) if snapshot.previous else None
            count = job.options[0].devices
            devices = (
                old.devices
                if old and placer.keep(old.devices)
                else placer.take(job.options[0].kind, count)
            )
            if devices is None:
                waiting.append(Waiting(job=job.job, reason=f"{job.job}: needs {count} devices"))
                continue
            jobs.append(
                JobAllocation(
                    job=job.job,
                    devices=devices,
                    threads=count,
                    harvest=Harvest.SHARE,
                    reason=f"{job.job}: {count} devices",
                )
            )
        return Plan(replicas=(), jobs=tuple(jobs), waiting=tuple(waiting))


def job(name: str, *, at: int = 0, steps: int = 100, devices: int = 1, **more: object) -> SimJob:
    table = Table(rows=(JobOption(kind="gpu", devices=devices, steps_per_second=10.0),))
    return SimJob(name=JobName(name), arrived=Micros(at * SECOND), steps=steps, model=table, **more)  # type: ignore[arg-type]


def run(*jobs: SimJob, devices: int = 1, outages: tuple[Outage, ...] = ()) -> Result:
    return simulate(
        Scenario(
            pool=Pool(
                devices=tuple(Device(index=i, kind="gpu") for i in range(devices)),
                price=PRICE,
                shared=False,
            ),
            policy=Newest(),
            interval=Micros(SECOND),
            jobs=jobs,
            outages=outages,
        )
    )


def finished(result: Result) -> dict[str, float | None]:
    return {
        one.name: None if one.finished is None else one.finished / SECOND for one in result.jobs
    }


def test_a_job_goes_at_its_pace() -> None:
    assert finished(run(job("a"))) == {"a": 10.0}


def test_a_restart_costs_its_time_each_time() -> None:
    result = run(
        job("a", restart=Micros(2 * SECOND)), job("b", at=5, restart=Micros(2 * SECOND)), devices=1
    )
    # a: 2 s restart, 3 s of steps; b: 5 to 17 s; a again: 17 + 2 + 7.
    assert finished(result) == {"a": 26.0, "b": 17.0}
    assert [one.restarts for one in result.jobs] == [1, 0]


def test_a_preempted_job_keeps_its_steps_and_its_devices_while_it_leaves() -> None:
    result = run(job("a", leave=Micros(SECOND)), job("b", at=5))
    # b starts when a has left, at 6 s; a has 5 s of steps done and goes on at 16 s.
    assert finished(result) == {"a": 21.0, "b": 16.0}


def test_a_failure_falls_back_to_the_last_checkpoint() -> None:
    outage = Outage(
        at=Micros(5 * SECOND), devices=frozenset({0}), back=Micros(8 * SECOND), reason="x"
    )
    result = run(job("a", save=Micros(2 * SECOND)), outages=(outage,))
    assert finished(result) == {"a": 14.0}
    assert sum(s.ends - s.begins for s in result.segments if s.use is Use.GONE) == 3 * SECOND


def test_every_moment_of_every_device_is_in_one_segment_and_costs_what_it_should() -> None:
    result = run(job("a", devices=2), job("b", at=3, devices=1, steps=7), devices=3)
    for device in range(3):
        own = [one for one in result.segments if one.device == device]
        assert own[0].begins == 0 and own[-1].ends == result.ended
        assert all(one.ends == two.begins for one, two in itertools.pairwise(own))
    busy = sum(s.ends - s.begins for s in result.segments if s.use is Use.TRAINING)
    idle = sum(s.ends - s.begins for s in result.segments if s.use is Use.IDLE)
    assert busy == 20 * SECOND + 700_000
    assert busy + idle == 3 * result.ended
    owed = busy + idle / 10
    assert abs(sum(s.cost for s in result.segments) - owed) < 3


def test_a_job_whose_devices_fail_again_and_again_is_not_given_up() -> None:
    outages = tuple(
        Outage(
            at=Micros((5 + 6 * n) * SECOND),
            devices=frozenset({0}),
            back=Micros((6 + 6 * n) * SECOND),
            reason="x",
        )
        for n in range(8)
    )
    # It never comes to a checkpoint before the last outage ends at 48 s.
    result = run(job("a", save=Micros(60 * SECOND)), outages=outages)
    assert finished(result) == {"a": 58.0}
