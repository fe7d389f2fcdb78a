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
from meted.domain.job import Job, JobStatus
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId

Step = tuple[ControlState, tuple[Effect, ...]]

KEPT_FIRST = {ReplicaStatus.READY: 0, ReplicaStatus.STARTING: 1, ReplicaStatus.BACKOFF: 2}
"""Which replicas stay where fewer are wanted; others are on their way out already."""
WITH_PROCESS = frozenset({JobStatus.STARTING, JobStatus.RUNNING, JobStatus.PAUSED})
DUE = frozenset({JobStatus.QUEUED, JobStatus.BACKOFF})


def enforce(state: ControlState, plan: Plan, now: Micros) -> Step:
    """Put a plan in force: do only what differs from what is."""
    before = state.plan
    state = replace(state, plan=plan, blocked=type(state.blocked)())
    effects: list[Effect] = []
    state, some = _preempt(state, now)
    effects += some
    told_before = {one.deployment: one for one in before.replicas}
    replicas = _by_deployment(state)
    for allocation in plan.replicas:
        if allocation.deployment not in state.deployments:
            continue
        state, some = _place_deployment(
            state, allocation, replicas.get(allocation.deployment, ()), now
        )
        known = told_before.get(allocation.deployment)
        if some or known is None or known.places != allocation.places:
            effects += [*some, Explain(at=now, reason=allocation.reason)]
    jobs_before = {one.job: one for one in before.jobs}
    for allocation in plan.jobs:
        known = jobs_before.get(allocation.job)
        if known is None or (known.harvest, known.devices) != (
            allocation.harvest,
            allocation.devices,
        ):
            if state.pool.shared:
                effects.append(PlaceJob(allocation=allocation))
            effects.append(Explain(at=now, reason=allocation.reason))
        state, some = _start_job(state, allocation, now)
        effects += some
    return state, tuple(effects)


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
    effects: list[Effect] = []
    for name in sorted(waiting):
        if (job := state.plan.job(JobName(name))) is not None:
            state, some = _start_job(state, job, now)
            effects += some
        place = state.plan.deployment(DeploymentName(name))
        if place is not None and place.deployment in state.deployments:
            replicas = _by_deployment(state).get(place.deployment, ())
            state, some = _place_deployment(state, place, replicas, now)
            effects += some
    return state, tuple(effects)


def start_replica(
    state: ControlState, deployment: Deployment, devices: tuple[int, ...], *, starts: int = 1
) -> tuple[ControlState, StartReplica]:
    """A new replica on devices that are free, or shared."""
    number = state.replicas_ever + 1
    new = Replica(
        id=ReplicaId(f"{deployment.name}-{number}"),
        deployment=deployment.name,
        status=ReplicaStatus.STARTING,
        threads=len(devices),
        devices=devices,
        starts=starts,
    )
    state = replace(
        _occupy(state, devices, new.id),
        replicas={**state.replicas, new.id: new},
        replicas_ever=number,
    )
    return state, StartReplica(replica=new, deployment=deployment, devices=devices)


def _by_deployment(state: ControlState) -> dict[DeploymentName, list[Replica]]:
    found: dict[DeploymentName, list[Replica]] = {}
    for replica in state.replicas.values():
        found.setdefault(replica.deployment, []).append(replica)
    return found


def _place_deployment(
    state: ControlState, allocation: ReplicaAllocation, replicas: Sequence[Replica], now: Micros
) -> tuple[ControlState, list[Effect]]:
    """Keep the replicas that stand on a wanted place; move, drain or start the others."""
    deployment = state.deployments[allocation.deployment]
    effects: list[Effect] = []
    wanted = Counter(allocation.places)
    surplus: list[Replica] = []
    here = [one for one in replicas if one.status in KEPT_FIRST]
    for replica in sorted(here, key=lambda one: KEPT_FIRST[one.status]):
        if wanted[replica.devices] <= 0:
            surplus.append(replica)
            continue
        wanted[replica.devices] -= 1
        if replica.status is ReplicaStatus.BACKOFF and (replica.retry_at or 0) <= now:
            state, start = _restart(state, deployment, replica)
            effects += start
    missing = list(wanted.elements())
    if state.pool.shared:
        while surplus and missing:
            replica = replace(surplus.pop(0), devices=missing.pop(0))
            state = replace(state, replicas={**state.replicas, replica.id: replica})
            effects.append(PlaceReplica(replica=replica.id, devices=replica.devices))
    for replica in surplus:
        state, drain = drain_replica(state, replica)
        effects += drain
    for place in missing:
        if _free(state, place):
            state, start = start_replica(state, deployment, place)
            effects.append(start)
        else:
            state = _wait(state, place, deployment.name)
    return state, effects


def drain_replica(state: ControlState, replica: Replica) -> Step:
    """It gets no new request and ends with its last; one that has no process is forgotten."""
    if replica.status is ReplicaStatus.BACKOFF:
        replicas = {name: one for name, one in state.replicas.items() if name != replica.id}
        return replace(state, replicas=replicas), ()
    leaving = replace(replica, status=ReplicaStatus.DRAINING)
    state = replace(state, replicas={**state.replicas, replica.id: leaving})
    return state, (DrainReplica(replica=replica.id),)


def _restart(state: ControlState, deployment: Deployment, dead: Replica) -> Step:
    if not _free(state, dead.devices):
        return _wait(state, dead.devices, deployment.name), ()
    replicas = {name: one for name, one in state.replicas.items() if name != dead.id}
    state, start = start_replica(
        replace(state, replicas=replicas), deployment, dead.devices, starts=dead.starts
    )
    return state, (start,)


def _preempt(state: ControlState, now: Micros) -> tuple[ControlState, list[Effect]]:
    """Jobs whose devices the plan gives to others make their work durable and leave."""
    if state.pool.shared:
        return state, []
    effects: list[Effect] = []
    planned = {one.job: one.devices for one in state.plan.jobs}
    why = {one.job: one.reason for one in state.plan.waiting}
    leaving: dict[JobName, Job] = {}
    for name, job in state.jobs.items():
        if job.status not in WITH_PROCESS or job.preempted or planned.get(name) == job.devices:
            continue
        leaving[name] = replace(job, preempted=True)
        effects += [SaveJob(job=leaving[name]), StopJob(name=name)]
        reason = why.get(name) or f"{name}: leaves {len(job.devices)} devices"
        if name not in planned:
            effects.append(Explain(at=now, reason=reason))
    return (replace(state, jobs={**state.jobs, **leaving}) if leaving else state), effects


def _start_job(
    state: ControlState, allocation: JobAllocation, now: Micros
) -> tuple[ControlState, list[Effect]]:
    """Start a job that the plan gives devices to and that has no process yet."""
    job = state.jobs.get(allocation.job)
    if job is None or job.pause_wanted or job.held or (job.retry_at or 0) > now:
        return state, []
    if job.status not in DUE:
        return (_wait(state, allocation.devices, allocation.job) if job.preempted else state), []
    if not _free(state, allocation.devices):
        return _wait(state, allocation.devices, allocation.job), []
    job = replace(
        job,
        status=JobStatus.STARTING,
        starts=job.starts + 1,
        retry_at=None,
        devices=allocation.devices,
    )
    state = replace(
        _occupy(state, allocation.devices, allocation.job),
        jobs={**state.jobs, allocation.job: job},
    )
    return state, [SaveJob(job=job), StartJob(spec=job.spec, allocation=allocation)]


def _free(state: ControlState, devices: tuple[int, ...]) -> bool:
    if state.pool.shared:
        return True
    return not any(one in state.occupied or one in state.lost for one in devices)


def _occupy(state: ControlState, devices: tuple[int, ...], who: Occupant) -> ControlState:
    if state.pool.shared:
        return state
    occupied = state.occupied.mutate()
    for device in devices:
        occupied[device] = who
    return replace(state, occupied=occupied.finish())


def _wait(state: ControlState, devices: tuple[int, ...], who: Occupant) -> ControlState:
    blocked = state.blocked.mutate()
    for device in devices:
        if device in state.occupied:
            blocked[device] = who
    return replace(state, blocked=blocked.finish())
