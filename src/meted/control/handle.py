"""The one function through which everything that happens passes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from meted.control.effects import (
    DrainReplica,
    Effect,
    Explain,
    ForgetDeployment,
    PlaceJob,
    PlaceReplicas,
    SaveDeployment,
    StartReplica,
    StopReplica,
)
from meted.control.events import (
    DemandSeen,
    Deployed,
    Event,
    JobEvent,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
    Undeployed,
)
from meted.control.jobs import handle_job, start_due_jobs
from meted.control.state import ControlError, ControlState
from meted.domain.allocation import DeploymentDemand, ReplicaAllocation, Snapshot
from meted.domain.deployment import Deployment, Replica, ReplicaStatus
from meted.domain.units import Micros, ReplicaId

Step = tuple[ControlState, tuple[Effect, ...]]

FIRST_RETRY_US = 500_000
LAST_RETRY_US = 30_000_000

Name = TypeVar("Name")
Value = TypeVar("Value")


def handle(state: ControlState, event: Event) -> Step:
    """What the state becomes by an event, and what is to be done. Pure.

    Raises ControlError if the event asks for what cannot be, such as pausing an unknown job.
    """
    if isinstance(event, JobEvent):
        return handle_job(state, event)
    match event:
        case Deployed():
            return _deployed(state, event)
        case Undeployed():
            return _undeployed(state, event)
        case ReplicaReady():
            return _replica_ready(state, event)
        case ReplicaDrained():
            return state, (StopReplica(replica=event.replica),)
        case ReplicaDied():
            return _replica_died(state, event)
        case DemandSeen():
            return _decide(state, event)
        case _:
            assert_never(event)


def _deployed(state: ControlState, event: Deployed) -> Step:
    deployment = event.deployment
    if deployment.name in state.deployments:
        raise ControlError(
            f"a deployment named {deployment.name!r} runs already; undeploy it first, "
            "or choose another name"
        )
    state = replace(state, deployments=_with(state.deployments, deployment.name, deployment))
    effects: list[Effect] = [SaveDeployment(deployment=deployment)]
    for _ in range(deployment.replicas):
        state, start = _start(state, deployment)
        effects.append(start)
    return state, tuple(effects)


def _start(state: ControlState, deployment: Deployment) -> tuple[ControlState, StartReplica]:
    number = state.replicas_ever + 1
    allocation = state.plan.deployment(deployment.name) or _first_allocation(state, deployment)
    new = Replica(
        id=ReplicaId(f"{deployment.name}-{number}"),
        deployment=deployment.name,
        status=ReplicaStatus.STARTING,
        threads=allocation.threads,
    )
    state = replace(state, replicas=_with(state.replicas, new.id, new), replicas_ever=number)
    return state, StartReplica(replica=new, deployment=deployment, devices=allocation.devices)


def _first_allocation(state: ControlState, deployment: Deployment) -> ReplicaAllocation:
    """What the policy gives a deployment that nobody has asked yet: threads are fixed at start."""
    demand = DeploymentDemand(
        deployment=deployment.name,
        replicas=deployment.replicas,
        arrivals_per_second=0.0,
        queued=0,
        running=0,
        utilisation=0.0,
        tokens_per_second=0.0,
        slo=deployment.slo,
    )
    snapshot = Snapshot(now=Micros(0), pool=state.pool, deployments=(demand,), jobs=())
    (allocation,) = state.policy.decide(snapshot).replicas
    return allocation


def _undeployed(state: ControlState, event: Undeployed) -> Step:
    if event.name not in state.deployments:
        known = ", ".join(state.deployments) or "none"
        raise ControlError(f"no deployment is named {event.name!r}; there are: {known}")
    effects: list[Effect] = [ForgetDeployment(name=event.name)]
    replicas = dict(state.replicas)
    for one in state.replicas.values():
        if one.deployment != event.name:
            continue
        if one.status is ReplicaStatus.BACKOFF:
            del replicas[one.id]
            continue
        replicas[one.id] = replace(one, status=ReplicaStatus.DRAINING)
        effects.append(DrainReplica(replica=one.id))
    deployments = {n: d for n, d in state.deployments.items() if n != event.name}
    return replace(state, deployments=deployments, replicas=replicas), tuple(effects)


def _replica_ready(state: ControlState, event: ReplicaReady) -> Step:
    known = state.replicas.get(event.replica)
    if known is None or known.status is not ReplicaStatus.STARTING:
        return state, ()
    ready = replace(known, status=ReplicaStatus.READY)
    return replace(state, replicas=_with(state.replicas, known.id, ready)), ()


def _replica_died(state: ControlState, event: ReplicaDied) -> Step:
    """A wanted replica is replaced: at once if it had worked, with growing pauses if not."""
    dead = state.replicas.get(event.replica)
    if dead is None:
        return state, ()
    replicas = {i: r for i, r in state.replicas.items() if i != dead.id}
    state = replace(state, replicas=replicas)
    if dead.status is ReplicaStatus.DRAINING or dead.deployment not in state.deployments:
        return state, ()
    failures = 1 if dead.status is ReplicaStatus.READY else dead.starts
    pause = min(LAST_RETRY_US, FIRST_RETRY_US * 2 ** (failures - 1))
    waiting = replace(
        dead,
        status=ReplicaStatus.BACKOFF,
        starts=failures + 1,
        retry_at=Micros(event.now + pause),
    )
    reason = (
        f"{dead.id} died ({event.reason}); a new replica starts in {pause / 1e6:.1f} s, "
        f"failure {failures} in a row"
    )
    state = replace(state, replicas=_with(state.replicas, dead.id, waiting))
    return state, (Explain(at=event.now, reason=reason),)


def _decide(state: ControlState, event: DemandSeen) -> Step:
    """Ask the policy, and do only what differs from the plan in force."""
    state, effects = _restart_due(state, event.now)
    snapshot = Snapshot(
        now=event.now,
        pool=state.pool,
        deployments=event.deployments,
        jobs=event.jobs,
        previous=state.plan,
    )
    plan = state.policy.decide(snapshot)
    for allocation in plan.replicas:
        before = state.plan.deployment(allocation.deployment)
        if before is None or before.devices != allocation.devices:
            effects.append(PlaceReplicas(allocation=allocation))
            effects.append(Explain(at=event.now, reason=allocation.reason))
    for allocation in plan.jobs:
        before = state.plan.job(allocation.job)
        if before is None or (before.harvest, before.devices) != (
            allocation.harvest,
            allocation.devices,
        ):
            effects.append(PlaceJob(allocation=allocation))
            effects.append(Explain(at=event.now, reason=allocation.reason))
    state, started = start_due_jobs(replace(state, plan=plan), event.now)
    return state, (*effects, *started)


def _restart_due(state: ControlState, now: Micros) -> tuple[ControlState, list[Effect]]:
    effects: list[Effect] = []
    for old in list(state.replicas.values()):
        if old.status is not ReplicaStatus.BACKOFF or (old.retry_at or 0) > now:
            continue
        replicas = {i: r for i, r in state.replicas.items() if i != old.id}
        state, start = _start(replace(state, replicas=replicas), state.deployments[old.deployment])
        again = replace(start.replica, starts=old.starts)
        state = replace(state, replicas=_with(state.replicas, again.id, again))
        effects.append(replace(start, replica=again))
    return state, effects


def _with(mapping: Mapping[Name, Value], name: Name, value: Value) -> dict[Name, Value]:
    return {**mapping, name: value}
