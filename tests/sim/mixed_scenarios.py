"""Scenarios with everything in them at once: serving of several tenants, jobs, outages, prices."""

from dataclasses import dataclass, replace

import numpy as np
from serving_scenarios import PRICE, SECOND, make_serving, replica, request

from meted.domain.allocation import (
    Harvest,
    JobAllocation,
    JobOption,
    Plan,
    ReplicaAllocation,
    Snapshot,
    Waiting,
)
from meted.domain.units import JobName, Micros, TenantName
from meted.policy.placement import Placer
from meted.sim.faults import node_failures, price_moves, together
from meted.sim.scenario import Scenario, SimJob, Table

Mixed = Scenario
END = Micros(40 * SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeThenTrain:
    """A replica for every two requests inside, at most two; jobs have the rest, first come first
    served; nobody moves without need."""

    def decide(self, snapshot: Snapshot) -> Plan:
        placer = Placer(snapshot)
        previous = snapshot.previous
        replicas: list[ReplicaAllocation] = []
        for one in snapshot.deployments:
            wanted = min(2, -(-(one.queued + one.running) // 2))
            old = previous.deployment(one.deployment) if previous else None
            places = [place for place in (old.places if old else ()) if placer.keep(place)]
            while len(places) < wanted and (more := placer.take("gpu", 1)):
                places.append(more)
            replicas.append(
                ReplicaAllocation(
                    deployment=one.deployment,
                    places=tuple(places[:wanted]),
                    reason=f"{one.deployment}: {wanted} replicas for {one.queued + one.running}",
                )
            )
        jobs: list[JobAllocation] = []
        waiting: list[Waiting] = []
        for job in snapshot.jobs:
            known = previous.job(job.job) if previous else None
            count = job.options[0].devices
            devices = (
                known.devices if known and placer.keep(known.devices) else placer.take("gpu", count)
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
        return Plan(replicas=tuple(replicas), jobs=tuple(jobs), waiting=tuple(waiting))


def make_mixed(seed: int, *, nodes: int = 2) -> Scenario:
    """A scenario drawn from a seed."""
    random = np.random.default_rng(seed)
    at = np.sort(random.uniform(0, 30, int(random.integers(0, 40))))
    requests = [
        request(
            when,
            prompt=int(random.integers(1, 500)),
            output=int(random.integers(1, 3_000)),
            tenant=("", "a", "b")[int(random.integers(3))],
        )
        for when in at
    ]
    jobs = [
        SimJob(
            name=JobName(f"job-{number}"),
            arrived=Micros(int(random.integers(0, 30 * SECOND))),
            steps=float(random.integers(1, 100)),
            model=Table(
                rows=(
                    JobOption(
                        kind="gpu", devices=int(random.integers(1, 3)), steps_per_second=10.0
                    ),
                )
            ),
            tenant=TenantName("lab"),
            restart=Micros(int(random.integers(0, 2 * SECOND))),
            leave=Micros(int(random.integers(0, SECOND))),
            save=Micros(SECOND),
        )
        for number in range(int(random.integers(0, 5)))
    ]
    scenario = make_serving(
        requests,
        policy=ServeThenTrain(),
        model=replica(max_batch=4, prompt=100.0),
        nodes=nodes,
        max_queue=int(random.integers(1, 10)),
        horizon=END,
        interval=int(random.integers(SECOND // 3, 4 * SECOND)),
    )
    failures = node_failures(
        scenario.pool, mtbf=Micros(30 * SECOND), mttr=Micros(5 * SECOND), until=END, seed=seed
    )
    prices = price_moves(
        "gpu", PRICE, every=Micros(7_654_321), volatility=3.0, reversion=1.0, until=END, seed=seed
    )
    return replace(
        scenario,
        jobs=jobs,
        outages=together(failures),
        price_changes=prices,
        at_once=bool(random.integers(2)),
    )
