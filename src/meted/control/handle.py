"""The one function through which everything that happens passes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from meted.control.effects import (
    Effect,
    Explain,
    ForgetDeployment,
    SaveDeployment,
    StopReplica,
)
from meted.control.events import (
    DemandSeen,
    Deployed,
    DevicesBack,
    DevicesLost,
    Event,
    JobEvent,
    PricesChanged,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
    Undeployed,
)
from meted.control.jobs import handle_job
from meted.control.placing import drain_replicas, enforce, start_replicas, vacate
from meted.control.state import ControlError, ControlState
from meted.domain.allocation import DeploymentDemand, Snapshot
from meted.domain.deployment import Deployment, ReplicaStatus
from meted.domain.units import Micros

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
        case DevicesLost():
            return _devices_lost(state, event)
        case DevicesBack():
            return _devices_back(state, event)
        case PricesChanged():
            return _prices_changed(state, event)
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
    started: tuple[Effect, ...] = ()
    if state.pool.shared:
        places = _first_places(state, deployment)
        state, started = start_replicas(state, deployment, places, event.now)
    return state, (SaveDeployment(deployment=deployment), *started)


def _first_places(state: ControlState, deployment: Deployment) -> tuple[tuple[int, ...], ...]:
    """What the policy gives a deployment that nobody has asked yet: threads are fixed at start.

    Where devices have one user at a time, it waits for the next decision instead.
    """
    if (known := state.plan.deployment(deployment.name)) is not None:
        return known.places
    least, most = deployment.bounds
    demand = DeploymentDemand(
        deployment=deployment.name,
        replicas=0,
        arrivals_per_second=0.0,
        queued=0,
        running=0,
        utilisation=0.0,
        tokens_per_second=0.0,
        slo=deployment.slo,
        least=least,
        most=most,
    )
    snapshot = Snapshot(now=Micros(0), pool=state.pool, deployments=(demand,), jobs=())
    (allocation,) = state.policy.decide(snapshot).replicas
    return allocation.places


def _undeployed(state: ControlState, event: Undeployed) -> Step:
    if event.name not in state.deployments:
        known = ", ".join(state.deployments) or "none"
        raise ControlError(f"no deployment is named {event.name!r}; there are: {known}")
    leave = [
        one
        for one in state.replicas.values()
        if one.deployment == event.name and one.status is not ReplicaStatus.DRAINING
    ]
    state, drained = drain_replicas(state, leave, event.now)
    deployments = {n: d for n, d in state.deployments.items() if n != event.name}
    return replace(state, deployments=deployments), (ForgetDeployment(name=event.name), *drained)


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
        return vacate(state, dead.devices, event.now)
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
    state, started = vacate(state, dead.devices, event.now)
    return state, (Explain(at=event.now, reason=reason), *started)


def _devices_lost(state: ControlState, event: DevicesLost) -> Step:
    """Jobs on them come back as if they had been preempted: it is not they who failed."""
    reason = f"{len(event.devices)} devices are lost: {event.reason}"
    jobs = {
        name: job if event.devices.isdisjoint(job.devices) else replace(job, preempted=True)
        for name, job in state.jobs.items()
    }
    state = replace(state, lost=state.lost | event.devices, jobs=jobs)
    return state, (Explain(at=event.now, reason=reason),)


def _devices_back(state: ControlState, event: DevicesBack) -> Step:
    state = replace(state, lost=state.lost - event.devices)
    reason = f"{len(event.devices)} devices can be used again, {len(state.lost)} cannot"
    return state, (Explain(at=event.now, reason=reason),)


def _prices_changed(state: ControlState, event: PricesChanged) -> Step:
    pool = replace(state.pool, prices={**state.pool.prices, **event.prices})
    changes = ", ".join(
        f"{kind} ${price.nano_usd_per_device_hour / 1e9:.4g}/h"
        for kind, price in sorted(event.prices.items())
    )
    reason = f"devices cost now: {changes}"
    return replace(state, pool=pool), (Explain(at=event.now, reason=reason),)


def _decide(state: ControlState, event: DemandSeen) -> Step:
    """Ask the policy, and put its plan in force."""
    snapshot = Snapshot(
        now=event.now,
        pool=state.pool,
        deployments=event.deployments,
        jobs=event.jobs,
        previous=state.plan,
        seed=state.seed,
        budgets=event.budgets,
        unavailable=unavailable(state),
        solver_seconds=state.solver_seconds,
    )
    return enforce(state, state.policy.decide(snapshot), event.now)


def unavailable(state: ControlState) -> frozenset[int]:
    """Devices that no plan may use now: lost, or of a replica that drains."""
    if state.pool.shared:
        return state.lost
    draining = (
        device
        for replica in state.replicas.values()
        if replica.status is ReplicaStatus.DRAINING
        for device in replica.devices
    )
    return state.lost.union(draining)


def _with(mapping: Mapping[Name, Value], name: Name, value: Value) -> dict[Name, Value]:
    return {**mapping, name: value}
