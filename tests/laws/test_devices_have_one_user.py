"""Where devices are not shared, each has one user at every moment, whatever happens when."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meted.control.effects import (
    DrainReplica,
    Effect,
    PlaceJob,
    PlaceReplica,
    StartJob,
    StartReplica,
    StopJob,
    StopReplica,
)
from meted.control.events import (
    CancelAsked,
    DemandSeen,
    Deployed,
    DevicesBack,
    DevicesLost,
    Event,
    JobDied,
    JobFinished,
    JobForgotten,
    JobMoved,
    JobSubmitted,
    PauseAsked,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
    ResumeAsked,
    Undeployed,
)
from meted.control.handle import handle, unavailable
from meted.control.placing import WITH_PROCESS
from meted.control.state import ControlState
from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    Plan,
    ReplicaAllocation,
    Snapshot,
)
from meted.domain.job import FINAL_JOB_STATUSES, JobProgress, JobStatus
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId
from meted.testing.builders import make_deployment, make_job_demand, make_spec
from meted.testing.check_exclusive import make_exclusive_pool

DEVICES = 6
JOBS = tuple(JobName(f"j{number}") for number in range(4))
DEPLOYMENTS = tuple(DeploymentName(name) for name in "ab")
OWNERS = (None, *JOBS, *DEPLOYMENTS)


class Told:
    """A policy that decides as the test says: who is to have each device."""

    owners: tuple[str | None, ...] = (None,) * DEVICES

    def decide(self, snapshot: Snapshot) -> Plan:
        allowed = [d for d in snapshot.pool.indices if d not in snapshot.unavailable]
        mine = {who: tuple(d for d in allowed if self.owners[d] == who) for who in OWNERS}
        known = {job.job for job in snapshot.jobs}
        return Plan(
            replicas=tuple(
                ReplicaAllocation(
                    deployment=name, places=tuple((d,) for d in mine[name]), reason="1"
                )
                for name in DEPLOYMENTS
            ),
            jobs=tuple(
                JobAllocation(
                    job=name,
                    devices=mine[name],
                    threads=len(mine[name]),
                    harvest=Harvest.SHARE,
                    reason="1",
                )
                for name in JOBS
                if mine[name] and name in known
            ),
        )


class Exclusive(RuleBasedStateMachine):
    """The world's own record of who runs where: it knows nothing of control's."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Told()
        pool = make_exclusive_pool(fast=DEVICES)
        self.state = ControlState(pool=pool, policy=self.policy)
        self.now = 0
        self.users: dict[str, tuple[int, ...]] = {}
        self.replicas: dict[ReplicaId, str] = {}
        self.lost: set[int] = set()
        for name in DEPLOYMENTS:
            self.happen(Deployed(now=Micros(0), deployment=make_deployment(name)))

    def happen(self, event: Event) -> None:
        self.state, effects = handle(self.state, event)
        for effect in effects:
            self.execute(effect)

    def execute(self, effect: Effect) -> None:
        match effect:
            case StartJob(spec=spec, allocation=allocation):
                self.start(spec.name, allocation.devices)
            case StartReplica(replica=replica, devices=devices):
                self.start(replica.id, devices)
                self.replicas[replica.id] = "starting"
            case DrainReplica(replica=replica):
                assert replica in self.users
                self.replicas[replica] = "draining"
            case StopReplica(replica=replica):
                assert self.replicas[replica] == "draining"
                self.replicas[replica] = "stopping"
            case StopJob(name=name):
                assert name in self.users, f"{name} is stopped and does not run"
            case PlaceJob() | PlaceReplica():
                raise AssertionError(f"a worker moves on exclusive devices: {effect}")
            case _:
                pass

    def start(self, who: str, devices: tuple[int, ...]) -> None:
        assert who not in self.users, f"{who} is started twice"
        assert devices
        used = {device: user for user, held in self.users.items() for device in held}
        for device in devices:
            assert device not in used, f"{who} starts on {device}, which {used[device]} uses"
            assert device not in self.lost, f"{who} starts on {device}, which is lost"
        self.users[who] = devices

    def later(self) -> Micros:
        self.now += 700_000
        return Micros(self.now)

    @rule(owners=st.tuples(*[st.sampled_from(OWNERS)] * DEVICES))
    def decide(self, owners: tuple[str | None, ...]) -> None:
        self.policy.owners = owners
        self.tick()

    @rule()
    def tick(self) -> None:
        jobs = tuple(
            make_job_demand(name, order=order)
            for order, (name, job) in enumerate(self.state.jobs.items())
            if job.status not in FINAL_JOB_STATUSES and not job.pause_wanted
        )
        self.happen(DemandSeen(now=self.later(), deployments=(), jobs=jobs))

    @rule(name=st.sampled_from(JOBS))
    def submit(self, name: JobName) -> None:
        if name not in self.state.jobs:
            self.happen(JobSubmitted(now=self.later(), spec=make_spec(name)))

    @rule(name=st.sampled_from(JOBS), ended=st.booleans())
    def job_leaves(self, name: JobName, ended: bool) -> None:
        """Its process ends: done, or dead by itself, or as it was told."""
        if name not in self.users:
            return
        if ended:
            self.happen(JobFinished(now=self.later(), name=name))
        del self.users[name]
        self.happen(JobDied(now=self.later(), name=name, reason="it ended"))
        if ended:
            self.happen(JobForgotten(now=self.later(), name=name))

    @rule(name=st.sampled_from(JOBS))
    def job_moves(self, name: JobName) -> None:
        if name in self.users:
            step = self.now // 1_000_000 + 1
            progress = JobProgress(step=step, checkpoint_step=step, total_steps=10**9)
            self.happen(JobMoved(now=self.later(), name=name, progress=progress))

    @rule(name=st.sampled_from(JOBS), verb=st.sampled_from((PauseAsked, ResumeAsked, CancelAsked)))
    def user_asks(self, name: JobName, verb: type[PauseAsked | ResumeAsked | CancelAsked]) -> None:
        job = self.state.jobs.get(name)
        if job is not None and job.status not in FINAL_JOB_STATUSES:
            self.happen(verb(now=self.later(), name=name))

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), dies=st.booleans())
    def replica_goes_on(self, data: st.DataObject, dies: bool) -> None:
        """It loads, drains, ends when told, or dies at any moment."""
        replica = data.draw(st.sampled_from(sorted(self.replicas)))
        status = self.replicas[replica]
        if dies or status == "stopping":
            self.replica_dies(replica)
        elif status == "starting":
            self.replicas[replica] = "ready"
            self.happen(ReplicaReady(now=self.later(), replica=replica))
        elif status == "draining":
            self.happen(ReplicaDrained(now=self.later(), replica=replica))

    def replica_dies(self, replica: ReplicaId) -> None:
        del self.users[replica], self.replicas[replica]
        self.happen(ReplicaDied(now=self.later(), replica=replica, reason="it ended"))

    @rule(devices=st.sets(st.integers(0, DEVICES - 1), max_size=2))
    def lose(self, devices: set[int]) -> None:
        self.lost |= devices
        self.happen(DevicesLost(now=self.later(), devices=frozenset(devices), reason="spot"))
        for who in [who for who, held in self.users.items() if devices.intersection(held)]:
            if who in self.replicas:
                self.replica_dies(ReplicaId(who))
            else:
                del self.users[who]
                self.happen(JobDied(now=self.later(), name=JobName(who), reason="lost"))

    @precondition(lambda self: self.lost)
    @rule()
    def come_back(self) -> None:
        self.happen(DevicesBack(now=self.later(), devices=frozenset(self.lost)))
        self.lost = set()

    @rule(name=st.sampled_from(DEPLOYMENTS))
    def redeploy(self, name: DeploymentName) -> None:
        if name in self.state.deployments:
            self.happen(Undeployed(now=self.later(), name=name))
        else:
            self.happen(Deployed(now=self.later(), deployment=make_deployment(name)))

    @invariant()
    def control_knows_who_uses_what(self) -> None:
        known = dict(self.state.occupied.items())
        true = {device: who for who, held in self.users.items() for device in held}
        assert known == true
        assert self.lost == self.state.lost

    @invariant()
    def jobs_with_a_process_are_those_that_run(self) -> None:
        running = {name for name, job in self.state.jobs.items() if job.status in WITH_PROCESS}
        assert running <= set(self.users)
        assert all(
            self.state.jobs[JobName(who)].devices == held
            for who, held in self.users.items()
            if who in self.state.jobs
        )

    @invariant()
    def a_draining_replicas_devices_are_offered_to_nobody(self) -> None:
        for replica, status in self.replicas.items():
            if status in ("draining", "stopping"):
                assert unavailable(self.state).issuperset(self.users[replica])

    def teardown(self) -> None:
        """When all who were told to leave have left, the plan's jobs run on their devices."""
        for replica in [one for one, status in self.replicas.items() if status != "ready"]:
            self.replica_dies(replica)
        for name in [name for name in JOBS if name in self.users]:
            if self.state.jobs[name].preempted:
                del self.users[name]
                self.happen(JobDied(now=self.later(), name=name, reason="it left"))
        self.now += 60_000_000
        self.tick()
        for one in self.state.plan.jobs:
            job = self.state.jobs[one.job]
            if job.preempted or job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
                continue
            free = not any(
                set(held) & set(one.devices) for who, held in self.users.items() if who != one.job
            )
            assert not free or self.users.get(one.job) == one.devices


TestDevicesHaveOneUser = Exclusive.TestCase
TestDevicesHaveOneUser.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
