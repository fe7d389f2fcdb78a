"""Control puts plans in force where a device has one user: who leaves, who waits, who starts."""

from dataclasses import dataclass, replace

from meted.control.effects import (
    DrainReplica,
    Effect,
    Explain,
    SaveJob,
    StartJob,
    StartReplica,
    StopJob,
    StopReplica,
)
from meted.control.events import (
    DemandSeen,
    Deployed,
    DevicesBack,
    DevicesLost,
    Event,
    JobDied,
    JobFinished,
    JobForgotten,
    JobSubmitted,
    PricesChanged,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
)
from meted.control.handle import handle, unavailable
from meted.control.state import ControlState
from meted.domain.allocation import Harvest, JobAllocation, Plan, ReplicaAllocation, Snapshot
from meted.domain.deployment import ReplicaStatus
from meted.domain.job import JobStatus
from meted.domain.pool import Price
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, ReplicaId
from meted.testing.builders import make_deployment, make_spec
from meted.testing.check_exclusive import make_exclusive_pool

A, B, M = JobName("a"), JobName("b"), DeploymentName("m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The same plan whatever is asked."""

    plan: Plan

    def decide(self, snapshot: Snapshot) -> Plan:
        return self.plan


def plan(*, jobs: dict[str, tuple[int, ...]], m: tuple[tuple[int, ...], ...] = ()) -> Plan:
    return Plan(
        replicas=(ReplicaAllocation(deployment=M, places=m, reason=f"m: {len(m)} replicas"),),
        jobs=tuple(
            JobAllocation(
                job=JobName(name),
                devices=devices,
                threads=len(devices),
                harvest=Harvest.SHARE,
                reason=f"{name}: {len(devices)} devices",
            )
            for name, devices in jobs.items()
        ),
    )


class Played:
    """A state and all effects since the last look."""

    def __init__(self, *events: Event) -> None:
        pool = make_exclusive_pool(fast=4)
        self.state = ControlState(pool=pool, policy=Fixed(plan=plan(jobs={})))
        self.effects: list[Effect] = []
        for event in events:
            self.happen(event)

    def happen(self, event: Event) -> list[Effect]:
        self.state, effects = handle(self.state, event)
        worth = [one for one in effects if not isinstance(one, Explain | SaveJob)]
        self.effects += worth
        return worth

    def decide(self, wanted: Plan, now: int = 0) -> list[Effect]:
        self.state = replace(self.state, policy=Fixed(plan=wanted))
        return self.happen(DemandSeen(now=Micros(now), deployments=(), jobs=()))


def two_jobs() -> Played:
    played = Played(
        JobSubmitted(now=Micros(0), spec=make_spec(A)),
        JobSubmitted(now=Micros(0), spec=make_spec(B)),
    )
    played.decide(plan(jobs={A: (0, 1), B: (2, 3)}))
    return played


def died(name: JobName, now: int = 1) -> JobDied:
    return JobDied(now=Micros(now), name=name, reason="it left")


def started(effects: list[Effect]) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.spec.name, one.allocation.devices) for one in effects if isinstance(one, StartJob)]


def test_two_jobs_that_swap_devices_both_leave_before_either_starts_again() -> None:
    played = two_jobs()
    swap = plan(jobs={A: (2, 3), B: (0, 1)})
    assert played.decide(swap) == [StopJob(name=A), StopJob(name=B)]
    assert started(played.happen(died(A))) == []
    assert sorted(started(played.happen(died(B)))) == [(A, (2, 3)), (B, (0, 1))]


def test_a_job_that_leaves_is_told_once_however_often_the_plan_is_made() -> None:
    played = two_jobs()
    played.decide(plan(jobs={A: (0, 1)}))
    assert played.decide(plan(jobs={A: (0, 1)})) == []
    assert played.happen(died(B)) == []
    assert played.state.jobs[B].status is JobStatus.QUEUED
    assert set(played.state.occupied) == {0, 1}


def test_a_job_waits_until_a_replica_on_its_devices_has_drained_and_ended() -> None:
    played = Played(
        JobSubmitted(now=Micros(0), spec=make_spec(A)),
        Deployed(now=Micros(0), deployment=make_deployment("m")),
    )
    (start,) = played.decide(plan(jobs={}, m=((0,),)))
    assert isinstance(start, StartReplica)
    replica = ReplicaId("m-1")
    played.happen(ReplicaReady(now=Micros(0), replica=replica))
    assert played.decide(plan(jobs={A: (0,)})) == [DrainReplica(replica=replica)]
    assert unavailable(played.state) == {0}
    drained = ReplicaDrained(now=Micros(1), replica=replica)
    assert played.happen(drained) == [StopReplica(replica=replica)]
    ended = ReplicaDied(now=Micros(2), replica=replica, reason="it was stopped")
    assert started(played.happen(ended)) == [(A, (0,))]


def test_a_dead_replicas_devices_wait_for_it_until_its_pause_is_over() -> None:
    played = Played(Deployed(now=Micros(0), deployment=make_deployment("m")))
    wanted = plan(jobs={}, m=((1,),))
    played.decide(wanted)
    dead = ReplicaDied(now=Micros(0), replica=ReplicaId("m-1"), reason="killed")
    assert played.happen(dead) == []
    assert played.decide(wanted, now=100_000) == []
    (start,) = played.decide(wanted, now=600_000)
    assert isinstance(start, StartReplica) and start.devices == (1,)
    assert [one.status for one in played.state.replicas.values()] == [ReplicaStatus.STARTING]


def test_a_dead_replica_whose_place_another_got_is_not_started_there() -> None:
    played = Played(
        JobSubmitted(now=Micros(0), spec=make_spec(A)),
        Deployed(now=Micros(0), deployment=make_deployment("m")),
    )
    played.decide(plan(jobs={}, m=((1,),)))
    played.happen(ReplicaDied(now=Micros(0), replica=ReplicaId("m-1"), reason="killed"))
    assert started(played.decide(plan(jobs={A: (1,)}), now=600_000)) == [(A, (1,))]
    assert played.state.replicas == {}


def test_nothing_starts_on_a_lost_device_until_it_is_back() -> None:
    played = Played(JobSubmitted(now=Micros(0), spec=make_spec(A)))
    lost = frozenset({0})
    played.happen(DevicesLost(now=Micros(0), devices=lost, reason="spot"))
    assert unavailable(played.state) == {0}
    assert played.decide(plan(jobs={A: (0, 1)})) == []
    played.happen(DevicesBack(now=Micros(1), devices=lost))
    assert started(played.decide(plan(jobs={A: (0, 1)}), now=2)) == [(A, (0, 1))]


def test_the_next_decision_sees_new_prices_of_those_kinds_only() -> None:
    played = Played()
    before = played.state.pool
    price = Price(nano_usd_per_device_hour=NanoUSD(5))
    played.happen(PricesChanged(now=Micros(0), prices={"fast": price}))
    assert played.state.pool.price_of("fast") == price
    assert played.state.pool.price_of("slow") == before.price_of("slow")


def test_a_forgotten_job_leaves_nothing_behind_and_a_new_one_may_have_its_name() -> None:
    played = two_jobs()
    played.happen(JobFinished(now=Micros(1), name=A))
    played.happen(died(A))
    played.happen(JobForgotten(now=Micros(1), name=A))
    assert A not in played.state.jobs
    assert set(played.state.occupied) == {2, 3}
    played.happen(JobSubmitted(now=Micros(2), spec=make_spec(A)))
    assert started(played.decide(plan(jobs={A: (0,), B: (2, 3)}), now=3)) == [(A, (0,))]
