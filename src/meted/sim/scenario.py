"""What is simulated: a pool, who wants what of it and when, what goes wrong, and the policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meted.domain.allocation import JobOption, ReplicaOption, TenantBudget
from meted.domain.deployment import Deployment
from meted.domain.pool import Pool, Price
from meted.domain.units import JobName, Micros, TenantName
from meted.ledger.rates import RateCard
from meted.policy.protocol import Policy
from meted.predict.replica import ReplicaModel

NOBODY = TenantName("")


class JobModel(Protocol):
    """How fast a job goes: what a policy is told, and what comes true. done: steps done so far."""

    def options(self, done: float) -> tuple[JobOption, ...]:
        """Ways to run it from here on, as the policy sees them."""
        ...

    def steps_per_second(self, done: float, *, kind: str, devices: int, nodes: int) -> float:
        """Its true pace on `devices` devices of a kind that lie on `nodes` nodes."""
        ...

    def steady_until(self, done: float) -> float:
        """Steps done up to which its pace stays what it is now; inf if it never changes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A job whose pace is in a table: each option comes true as it is told, wherever it lies."""

    rows: tuple[JobOption, ...]

    def options(self, done: float) -> tuple[JobOption, ...]:
        return self.rows

    def steps_per_second(self, done: float, *, kind: str, devices: int, nodes: int) -> float:
        for one in self.rows:
            if one.kind == kind and one.devices == devices:
                return one.steps_per_second
        ways = ", ".join(f"{one.devices} x {one.kind}" for one in self.rows)
        raise ValueError(
            f"a plan gives a job {devices} x {kind}; expected one of its options: {ways}"
        )

    def steady_until(self, done: float) -> float:
        return float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimJob:
    """A training job that is submitted at `arrived`.

    restart: time without a step whenever it starts, also after a move. leave: time for which it
    keeps its devices while it makes its work durable. save: time between two checkpoints; a failure
    loses what came after the last; a preemption loses nothing. deadline: a moment, not a duration.
    """

    name: JobName
    arrived: Micros
    steps: float
    model: JobModel
    tenant: TenantName = NOBODY
    weight: float = 1.0
    priority: int = 0
    deadline: Micros | None = None
    restart: Micros = Micros(0)
    leave: Micros = Micros(0)
    save: Micros | None = None


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One request. prefix: ids of its prompt's blocks, equal ids for equal prefixes.

    max_tokens: output that it allows for, which a budget sets aside; 0: what it will generate.
    """

    at: Micros
    prompt_tokens: int
    output_tokens: int
    tenant: TenantName = NOBODY
    prefix: tuple[int, ...] = ()
    max_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimDeployment:
    """A deployment, how it can run, and its requests in the order they come.

    replicas: what runs an option, by its kind and number of devices. rates: what its requests are
    charged; needed where one of them is of a tenant with a budget.
    """

    deployment: Deployment
    options: tuple[ReplicaOption, ...]
    replicas: Mapping[tuple[str, int], ReplicaModel]
    requests: Sequence[SimRequest] = ()
    tenant: TenantName = NOBODY
    rates: RateCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Devices that fail or vanish at a moment, and come back later, or never."""

    at: Micros
    devices: frozenset[int]
    back: Micros | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """What devices of some kinds cost from a moment on."""

    at: Micros
    prices: Mapping[str, Price]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that a simulation depends on: equal scenarios give equal bytes.

    interval: between two decisions. at_once: decide also when a job comes or ends. horizon: when
    the simulation ends if work is left; None: when all work is done. unpark: time until a parked
    device can be used again. budgets: hard ones, of jobs by device time, of requests by rates.
    """

    pool: Pool
    policy: Policy
    interval: Micros
    deployments: Sequence[SimDeployment] = ()
    jobs: Sequence[SimJob] = ()
    outages: Sequence[Outage] = ()
    price_changes: Sequence[PriceChange] = ()
    budgets: Sequence[TenantBudget] = ()
    horizon: Micros | None = None
    at_once: bool = False
    unpark: Micros = Micros(0)
    seed: int = 0
    solver_seconds: float = 1.0
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """What a report says of where this comes from."""
