"""From the plan in force to who runs on which devices: starts, moves, drains and preemptions.

Where devices are shared a worker moves at once. Elsewhere a device has one user at a time: a
replica drains and a job makes its work durable before the next user starts on their devices.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from meted.control.effects import (
    DrainReplica,
    Effect,
    Explain,
    PlaceJob,
    PlaceReplica,
    SaveJob,
    StartJob,
    StartReplica,
    StopJob,
)
from meted.control.state import ControlState, Occupant
from meted.domain.allocation import JobAllocation, Plan, ReplicaAllocation
from meted.domain.deployment import Deployment, Replica, ReplicaStatus
from meted.domain.job import JobStatus
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId

Step = tuple[ControlState, tuple[Effect, ...]]

KEPT_FIRST = {ReplicaStatus.READY: 0, ReplicaStatus.STARTING: 1, ReplicaStatus.BACKOFF: 2}
"""Which replicas stay where fewer are wanted; others are on their way out already."""
WITH_PROCESS = frozenset({JobStatus.STARTING, JobStatus.RUNNING, JobStatus.PAUSED})
DUE = frozenset({JobStatus.QUEUED, JobStatus.BACKOFF})


class _Draft:
    """A state in the middle of a change: changed in place here, and a value again when done."""

    def __init__(self, state: ControlState, now: Micros) -> None:
        self.state, self.now = state, now
        self.replicas = dict(state.replicas)
        self.replicas_ever = state.replicas_ever
        self.jobs = dict(state.jobs)
        self.occupied = state.occupied.mutate()
        self.blocked = state.blocked.mutate()
        self.effects: list[Effect] = []

    def done(self) -> Step:
        state = replace(
            self.state,
            replicas=self.replicas,
            replicas_ever=self.replicas_ever,
            jobs=self.jobs,
            occupied=self.occupied.finish(),
            blocked=self.blocked.finish(),
        )
        return state, tuple(self.effects)

    def by_deployment(self) -> dict[DeploymentName, list[Replica]]:
        found: dict[DeploymentName, list[Replica]] = {}
        for replica in self.replicas.values():
            found.setdefault(replica.deployment, []).append(replica)
        return found

    def free(self, devices: tuple[int, ...]) -> bool:
        if self.state.pool.shared:
            return True
        return not any(one in self.occupied or one in self.state.lost for one in devices)

    def occupy(self, devices: tuple[int, ...], who: Occupant) -> None:
        if not self.state.pool.shared:
            for device in devices:
                self.occupied[device] = who

    def wait(self, devices: tuple[int, ...], who: Occupant) -> None:
        for device in devices:
            if device in self.occupied:
                self.blocked[device] = who

    def explain(self, reason: str) -> None:
        self.effects.append(Explain(at=self.now, reason=reason))


def enforce(state: ControlState, plan: Plan, now: Micros) -> Step:
    """Put a plan in force: do only what differs from what is."""
    before = state.plan
    draft = _Draft(replace(state, plan=plan, blocked=type(state.blocked)()), now)
    _preempt(draft)
    told_before = {one.deployment: one for one in before.replicas}
    replicas = draft.by_deployment()
    for allocation in plan.replicas:
        if allocation.deployment not in state.deployments:
            continue
        done = len(draft.effects)
        _place_deployment(draft, allocation, replicas.get(allocation.deployment, ()))
        known = told_before.get(allocation.deployment)
        if len(draft.effects) > done or known is None or known.places != allocation.places:
            draft.explain(allocation.reason)
    jobs_before = {one.job: one for one in before.jobs}
    for allocation in plan.jobs:
        known = jobs_before.get(allocation.job)
        if known is None or (known.harvest, known.devices) != (
            allocation.harvest,
            allocation.devices,
        ):
            if state.pool.shared:
                draft.effects.append(PlaceJob(allocation=allocation))
            draft.explain(allocation.reason)
        _start_job(draft, allocation)
    return draft.done()


def vacate(
    state: ControlState, devices: Iterable[int], now: Micros, *, left: JobName | None = None
) -> Step:
    """Devices are free again: whoever was planned on them may start now.

    left: the job that left them; it starts on its next devices if those are free already.
    """
    if state.pool.shared:
        return state, ()
    waiting: set[Occupant] = set() if left is None else {left}
    occupied = state.occupied.mutate()
    for device in devices:
        occupied.pop(device, None)
        if device in state.blocked:
            waiting.add(state.blocked[device])
    state = replace(state, occupied=occupied.finish())
    if not waiting:
        return state, ()
    draft = _Draft(state, now)
    for name in sorted(waiting):
        if (job := state.plan.job(JobName(name))) is not None:
            _start_job(draft, job)
        place = state.plan.deployment(DeploymentName(name))
        if place is not None and place.deployment in state.deployments:
            replicas = draft.by_deployment().get(place.deployment, ())
            _place_deployment(draft, place, replicas)
    return draft.done()


def start_replicas(
    state: ControlState, deployment: Deployment, places: Iterable[tuple[int, ...]], now: Micros
) -> Step:
    """New replicas on devices that are free, or shared."""
    draft = _Draft(state, now)
    for place in places:
        _start_replica(draft, deployment, place)
    return draft.done()


def drain_replicas(state: ControlState, replicas: Iterable[Replica], now: Micros) -> Step:
    """They get no new request and end with their last; one without a process is forgotten."""
    draft = _Draft(state, now)
    for replica in replicas:
        _drain_replica(draft, replica)
    return draft.done()


def _start_replica(
    draft: _Draft, deployment: Deployment, devices: tuple[int, ...], *, starts: int = 1
) -> None:
    draft.replicas_ever += 1
    new = Replica(
        id=ReplicaId(f"{deployment.name}-{draft.replicas_ever}"),
        deployment=deployment.name,
        status=ReplicaStatus.STARTING,
        threads=len(devices),
        devices=devices,
        starts=starts,
    )
    draft.occupy(devices, new.id)
    draft.replicas[new.id] = new
    draft.effects.append(StartReplica(replica=new, deployment=deployment, devices=devices))


def _place_deployment(
    draft: _Draft, allocation: ReplicaAllocation, replicas: Sequence[Replica]
) -> None:
    """Keep the replicas that stand on a wanted place; move, drain or start the others."""
    deployment = draft.state.deployments[allocation.deployment]
    wanted = Counter(allocation.places)
    surplus: list[Replica] = []
    here = [one for one in replicas if one.status in KEPT_FIRST]
    for replica in sorted(here, key=lambda one: KEPT_FIRST[one.status]):
        if wanted[replica.devices] <= 0:
            surplus.append(replica)
            continue
        wanted[replica.devices] -= 1
        if replica.status is ReplicaStatus.BACKOFF and (replica.retry_at or 0) <= draft.now:
            _restart(draft, deployment, replica)
    missing = list(wanted.elements())
    if draft.state.pool.shared:
        while surplus and missing:
            replica = replace(surplus.pop(0), devices=missing.pop(0))
            draft.replicas[replica.id] = replica
            draft.effects.append(PlaceReplica(replica=replica.id, devices=replica.devices))
    for replica in surplus:
        _drain_replica(draft, replica)
    for place in missing:
        if draft.free(place):
            _start_replica(draft, deployment, place)
        else:
            draft.wait(place, deployment.name)


def _drain_replica(draft: _Draft, replica: Replica) -> None:
    if replica.status is ReplicaStatus.BACKOFF:
        del draft.replicas[replica.id]
        return
    draft.replicas[replica.id] = replace(replica, status=ReplicaStatus.DRAINING)
    draft.effects.append(DrainReplica(replica=replica.id))


def _restart(draft: _Draft, deployment: Deployment, dead: Replica) -> None:
    if not draft.free(dead.devices):
        draft.wait(dead.devices, deployment.name)
        return
    del draft.replicas[dead.id]
    _start_replica(draft, deployment, dead.devices, starts=dead.starts)


def _preempt(draft: _Draft) -> None:
    """Jobs whose devices the plan gives to others make their work durable and leave."""
    state = draft.state
    if state.pool.shared:
        return
    planned = {one.job: one.devices for one in state.plan.jobs}
    why = {one.job: one.reason for one in state.plan.waiting}
    for name, job in state.jobs.items():
        if job.status not in WITH_PROCESS or job.preempted or planned.get(name) == job.devices:
            continue
        draft.jobs[name] = replace(job, preempted=True)
        draft.effects += [SaveJob(job=draft.jobs[name]), StopJob(name=name)]
        if name not in planned:
            draft.explain(why.get(name) or f"{name}: leaves {len(job.devices)} devices")


def _start_job(draft: _Draft, allocation: JobAllocation) -> None:
    """Start a job that the plan gives devices to and that has no process yet."""
    job = draft.jobs.get(allocation.job)
    if job is None or job.pause_wanted or job.held or (job.retry_at or 0) > draft.now:
        return
    if job.status not in DUE:
        if job.preempted:
            draft.wait(allocation.devices, allocation.job)
        return
    if not draft.free(allocation.devices):
        draft.wait(allocation.devices, allocation.job)
        return
    job = replace(
        job,
        status=JobStatus.STARTING,
        starts=job.starts + 1,
        retry_at=None,
        devices=allocation.devices,
    )
    draft.occupy(allocation.devices, allocation.job)
    draft.jobs[allocation.job] = job
    draft.effects += [SaveJob(job=job), StartJob(spec=job.spec, allocation=allocation)]
