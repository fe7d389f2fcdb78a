"""How long one control decision takes for a large pool: policy, and what follows of its plan.

    python benchmarks/decide.py [--json] [--devices 10000] [--jobs 5000] [--only ..]

A pool of three kinds, eight devices a node, whose devices have one user at a time. Deployments want
replicas of one device or two, of which some load; jobs want one to eight devices of any kind. The
first decision fills an empty pool. Then, some of what was started being ready, demand moves and one
job in a hundred ends before each further decision: those are the ordinary ones. Each is one
`control.handle` of what was seen: CPU seconds of the process, and beside it of the policy alone.
Memory: the largest that Python holds during one more decision beyond what it held before.
"""

import argparse
import gc
import importlib
import json
import time
import tracemalloc
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from meted.control.effects import DrainReplica, Effect, StartJob, StartReplica, StopJob
from meted.control.events import (
    DemandSeen,
    Deployed,
    Event,
    JobDied,
    JobFinished,
    JobForgotten,
    JobMoved,
    JobSubmitted,
    ReplicaDied,
    ReplicaReady,
)
from meted.control.handle import handle
from meted.control.state import ControlState
from meted.domain.allocation import DeploymentDemand, JobDemand, JobOption, ReplicaOption, Snapshot
from meted.domain.deployment import ReplicaStatus
from meted.domain.job import JobProgress, JobStatus
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName
from meted.policy.allocation import POLICIES, make_policy
from meted.policy.protocol import Policy
from meted.testing.builders import make_deployment, make_slo, make_spec
from meted.testing.house import machine

KINDS = {"fast": 3_000_000_000, "middle": 1_500_000_000, "slow": 600_000_000}
SPEED = {"fast": 4.0, "middle": 2.0, "slow": 1.0}
SHARED_ONLY = {"static", "demand", "performance"}
"""Policies of cores that the operating system shares: they name no device for a single user."""
ROUND = 60_000_000
TENANTS = 20


def make_pool(devices: int) -> Pool:
    """Devices of three kinds, eight a node."""
    kinds = list(KINDS)
    return Pool(
        devices=tuple(
            Device(index=n, kind=kinds[n // 8 % len(kinds)], node=n // 8) for n in range(devices)
        ),
        price=Price(nano_usd_per_device_hour=NanoUSD(1_000_000_000)),
        prices={
            kind: Price(nano_usd_per_device_hour=NanoUSD(price), parked=NanoUSD(0))
            for kind, price in KINDS.items()
        },
        shared=False,
    )


def policy_of(name: str) -> Policy:
    """A policy by its name, or by `module:Class`."""
    if ":" not in name:
        return make_policy(name)
    module, _, made = name.partition(":")
    return getattr(importlib.import_module(module), made)()


class Timed:
    """A policy, and the CPU seconds of its last decision."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.seconds = policy, 0.0

    def decide(self, snapshot: Snapshot) -> Any:
        began = time.process_time()
        plan = self.policy.decide(snapshot)
        self.seconds = time.process_time() - began
        return plan


class Scene:
    """A control state with its deployments and jobs, and the demands of each round."""

    def __init__(self, policy: Policy, arguments: argparse.Namespace) -> None:
        self.random = np.random.default_rng(arguments.seed)
        self.policy = Timed(policy)
        self.state = ControlState(
            pool=make_pool(arguments.devices), policy=self.policy, solver_seconds=0.5
        )
        self.now = 0
        self.names = [DeploymentName(f"d{n:04}") for n in range(arguments.deployments)]
        self.rates = self.random.lognormal(0.5, 1.0, len(self.names))
        self.jobs: dict[JobName, JobDemand] = {}
        for name in self.names:
            one = replace(make_deployment(name), least=0, most=16)
            self.happen(Deployed(now=Micros(0), deployment=one))
        for number in range(arguments.jobs):
            self.submit(number)
        self.numbers = arguments.jobs

    def happen(self, event: Event) -> tuple[Effect, ...]:
        self.state, effects = handle(self.state, event)
        return effects

    def submit(self, number: int) -> None:
        name = JobName(f"j{number:05}")
        sizes = (1, 1, 1, 2, 4, 8)
        devices = sizes[int(self.random.integers(len(sizes)))]
        steps = int(self.random.integers(10_000, 1_000_000))
        late = self.random.random() < 0.2
        self.jobs[name] = JobDemand(
            job=name,
            order=number,
            remaining_steps=steps,
            total_steps=steps,
            tokens_per_device_second=0.0,
            tenant=TenantName(f"t{number % TENANTS}"),
            arrived=Micros(self.now),
            deadline=Micros(self.now + 72 * 3_600_000_000) if late else None,
            restart=Micros(30_000_000),
            options=tuple(
                JobOption(kind=kind, devices=devices, steps_per_second=speed * devices**0.9)
                for kind, speed in SPEED.items()
            ),
        )
        self.happen(JobSubmitted(now=Micros(self.now), spec=make_spec(name)))

    def seen(self) -> DemandSeen:
        """What the world sees at the end of a round."""
        self.now += ROUND
        self.rates *= self.random.lognormal(0.0, 0.1, len(self.names))
        ready: dict[str, int] = {}
        starting: dict[str, int] = {}
        for one in self.state.replicas.values():
            counts = ready if one.status is ReplicaStatus.READY else starting
            counts[one.deployment] = counts.get(one.deployment, 0) + 1
        demands = tuple(
            DeploymentDemand(
                deployment=name,
                replicas=ready.get(name, 0),
                starting=starting.get(name, 0),
                arrivals_per_second=float(rate),
                queued=int(self.random.integers(4)),
                running=int(rate),
                utilisation=0.6,
                tokens_per_second=100 * float(rate),
                slo=make_slo(),
                least=0,
                most=16,
                options=tuple(
                    ReplicaOption(
                        kind=kind,
                        devices=1 + number % 2,
                        requests_per_second=speed * (1 + number % 2),
                        load=Micros(20_000_000),
                        ttft_p95=Micros(300_000),
                        tpot_p95=Micros(30_000),
                    )
                    for kind, speed in SPEED.items()
                ),
            )
            for number, (name, rate) in enumerate(zip(self.names, self.rates, strict=True))
        )
        running = {name for name, job in self.state.jobs.items() if job.status is JobStatus.RUNNING}
        return DemandSeen(
            now=Micros(self.now),
            deployments=demands,
            jobs=tuple(
                replace(job, running=name in running) if name in running else job
                for name, job in self.jobs.items()
            ),
        )

    def obey(self, effects: tuple[Effect, ...]) -> None:
        """The world does what was wanted; all of it at once."""
        now = Micros(self.now)
        waiting = list(effects)
        while waiting:
            match waiting.pop():
                case StartReplica(replica=replica):
                    waiting += self.happen(ReplicaReady(now=now, replica=replica.id))
                case DrainReplica(replica=replica):
                    waiting += self.happen(ReplicaDied(now=now, replica=replica, reason="left"))
                case StartJob(spec=spec):
                    progress = JobProgress(step=1, total_steps=10**6, checkpoint_step=1)
                    self.happen(JobMoved(now=now, name=spec.name, progress=progress))
                case StopJob(name=name):
                    waiting += self.happen(JobDied(now=now, name=name, reason="left"))
                case _:
                    pass

    def go_on(self) -> None:
        """One running job in a hundred ends, and as many new ones come."""
        running = [name for name, job in self.state.jobs.items() if job.status is JobStatus.RUNNING]
        now = Micros(self.now)
        for name in running[:: max(1, min(100, len(running)))]:
            self.happen(JobFinished(now=now, name=name))
            self.obey(self.happen(JobDied(now=now, name=name, reason="done")))
            self.happen(JobForgotten(now=now, name=name))
            del self.jobs[name]
            self.submit(self.numbers)
            self.numbers += 1


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """First decision, median and largest of further ones, and memory, of one policy."""
    scene = Scene(policy_of(name), arguments)
    gc.collect()
    seconds: list[float] = []
    alone: list[float] = []
    obeyed: list[float] = []
    for _ in range(1 + arguments.rounds):
        seen = scene.seen()
        began = time.process_time()
        effects = scene.happen(seen)
        decided = time.process_time()
        scene.obey(effects)
        scene.go_on()
        seconds.append(decided - began)
        obeyed.append(time.process_time() - decided)
        alone.append(scene.policy.seconds)
    seen = scene.seen()
    gc.collect()
    tracemalloc.start()
    handle(scene.state, seen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    plan = scene.state.plan
    used = {d for one in plan.jobs for d in one.devices}
    used |= {d for one in plan.replicas for place in one.places for d in place}
    return {
        "policy": name.rpartition(":")[2],
        "first_s": seconds[0],
        "median_s": median(seconds[1:]),
        "most_s": max(seconds[1:]),
        "policy_median_s": median(alone[1:]),
        "world_median_s": median(obeyed[1:]),
        "peak_mib": peak / 2**20,
        "replicas": sum(len(one.places) for one in plan.replicas),
        "jobs": len(plan.jobs),
        "devices": len(used),
    }


def main() -> None:
    """Every policy that decides for both kinds of work."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--deployments", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    both = sorted(set(POLICIES) - SHARED_ONLY)
    parser.add_argument("--only", nargs="*", default=both, help="names, or module:Class")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.json:
        rows = [measure(name, arguments) for name in arguments.only]
        print(json.dumps({"machine": machine(), "arguments": vars(arguments), "rows": rows}))
        return
    print(machine())
    print(
        f"{arguments.devices} devices, {arguments.deployments} deployments, {arguments.jobs} jobs; "
        f"CPU seconds of a decision, {arguments.rounds} after the first"
    )
    for number, name in enumerate(arguments.only):
        row = measure(name, arguments)
        if not number:
            print("".join(f"{column:>20}" for column in row))
        told = (f"{one:.3f}" if isinstance(one, float) else str(one) for one in row.values())
        print("".join(f"{one:>20}" for one in told), flush=True)


if __name__ == "__main__":
    main()
