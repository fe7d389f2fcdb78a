"""A job that moves starts as soon as its new devices are free, whoever leaves first."""

from dataclasses import dataclass

from meted.domain.allocation import Harvest, JobAllocation, JobOption, Plan, Snapshot
from meted.domain.units import JobName, Micros
from meted.sim.scenario import Scenario, SimJob, Table
from meted.sim.world import simulate
from meted.testing.check_exclusive import make_exclusive_pool

HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Two jobs change places after the first decision."""

    def decide(self, snapshot: Snapshot) -> Plan:
        turned = snapshot.now > 0
        return Plan(
            replicas=(),
            jobs=tuple(
                JobAllocation(
                    job=job.job,
                    devices=((job.order + turned) % 2,),
                    threads=1,
                    harvest=Harvest.SHARE,
                    reason="1 device",
                )
                for job in snapshot.jobs
            ),
        )


def test_two_jobs_that_change_places_lose_no_time() -> None:
    model = Table(rows=(JobOption(kind="fast", devices=1, steps_per_second=1.0),))
    jobs = [SimJob(name=JobName(name), arrived=Micros(0), steps=7200, model=model) for name in "ab"]
    result = simulate(
        Scenario(pool=make_exclusive_pool(fast=2), policy=Swap(), interval=Micros(HOUR), jobs=jobs)
    )
    assert [job.finished for job in result.jobs] == [2 * HOUR, 2 * HOUR]
    assert [job.restarts for job in result.jobs] == [1, 1]
