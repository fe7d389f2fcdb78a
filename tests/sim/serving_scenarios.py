"""Scenarios of serving for tests: replicas whose step takes a set time, on devices of one kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from meted.domain.allocation import DeploymentDemand, Plan, ReplicaAllocation, ReplicaOption
from meted.domain.allocation import Snapshot as Snapshot
from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, Micros, NanoUSD, TenantName
from meted.policy.protocol import Policy
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.scenario import Outage, PriceChange, Scenario, SimDeployment, SimRequest

SECOND = 1_000_000
LOAD = 2 * SECOND
PRICE = Price(
    nano_usd_per_device_hour=NanoUSD(3_000_000_007),
    idle=NanoUSD(1_000_000_001),
    parked=NanoUSD(7),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """As many replicas as a list says for each second, the last for ever. seen: the demands."""

    by_second: tuple[int, ...]
    seen: list[DeploymentDemand] = field(default_factory=list)

    def decide(self, snapshot: Snapshot) -> Plan:
        self.seen.extend(snapshot.deployments)
        second = min(snapshot.now // SECOND, len(self.by_second) - 1)
        here = [one for one in snapshot.pool.indices if one not in snapshot.unavailable]
        count = min(self.by_second[second], len(here))
        return Plan(
            replicas=tuple(
                ReplicaAllocation(
                    deployment=one.deployment,
                    places=tuple((device,) for device in here[:count]),
                    reason=f"{one.deployment}: {count} replicas",
                )
                for one in snapshot.deployments
            ),
            jobs=(),
        )


def replica(
    *, fixed: float = 1_000.0, max_batch: int = 1, kv_tokens: int = 1_000_000, prompt: float = 0.0
) -> ReplicaModel:
    """A step takes `fixed` micros, whatever decodes, and `prompt` more for each prompt token."""
    return ReplicaModel(
        step=StepCost(fixed=fixed, prefill=prompt, decode=0.0, context=0.0),
        kv_tokens=kv_tokens,
        chunk_tokens=100_000,
        max_batch=max_batch,
    )


def make_serving(
    requests: Sequence[SimRequest],
    *,
    policy: Policy,
    model: ReplicaModel | None = None,
    devices: int = 4,
    nodes: int = 1,
    max_queue: int = 1_000_000,
    horizon: int | None = None,
    interval: int = SECOND,
    load: int = LOAD,
    outages: Sequence[Outage] = (),
    price_changes: Sequence[PriceChange] = (),
    tenant: str = "host",
) -> Scenario:
    """One deployment on `devices` devices."""
    model = model or replica()
    deployment = Deployment(
        name=DeploymentName("chat"),
        checkpoint="chat",
        task=Task.GENERATE,
        replicas=1,
        slo=DEFAULT_SLO,
        max_batch=model.max_batch,
        max_queue=max_queue,
        least=0,
        most=devices,
    )
    option = ReplicaOption(kind="gpu", devices=1, requests_per_second=1.0, load=Micros(load))
    return Scenario(
        pool=Pool(
            devices=tuple(
                Device(index=index, kind="gpu", node=index % nodes) for index in range(devices)
            ),
            price=PRICE,
            shared=False,
        ),
        policy=policy,
        interval=Micros(interval),
        deployments=[
            SimDeployment(
                deployment=deployment,
                options=(option,),
                replicas={("gpu", 1): model},
                requests=requests,
                tenant=TenantName(tenant),
            )
        ],
        outages=outages,
        price_changes=price_changes,
        horizon=None if horizon is None else Micros(horizon),
    )


def request(at: float, *, prompt: int = 1, output: int = 1000, tenant: str = "") -> SimRequest:
    """at: in seconds."""
    return SimRequest(Micros(round(at * SECOND)), prompt, output, TenantName(tenant))


def poisson(
    count: int, *, rate: float, mean_tokens: float, seed: int, begin: float = 10.0
) -> list[SimRequest]:
    """Requests at a rate a second, whose output lengths are exponential, rounded up."""
    random = np.random.default_rng(seed)
    at = begin + np.cumsum(random.exponential(1 / rate, count))
    lengths = np.maximum(1, np.ceil(random.exponential(mean_tokens, count)))
    return [request(when, output=int(tokens)) for when, tokens in zip(at, lengths, strict=True)]
