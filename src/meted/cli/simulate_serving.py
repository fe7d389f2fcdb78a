"""A deployment of `meted simulate`: the ways a model runs on the pool's kinds, by prediction."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meted.cli.simulate_traces import SpecError
from meted.domain.algorithm import Parallelism
from meted.domain.allocation import ReplicaOption
from meted.domain.architecture import Architecture
from meted.domain.deployment import DEFAULT_SLO, SLO, Deployment, Task
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.pool import Pool
from meted.domain.units import MICROS_PER_SECOND, DeploymentName, Micros
from meted.live.calibrations import Calibrations, believe
from meted.live.home import Home
from meted.live.predicted import usual_algorithm
from meted.policy.fleet.traffic import poisson_sample
from meted.predict.batching import BLOCK_TOKENS, Arrival
from meted.predict.replay import Latencies, latencies, quantile, replay
from meted.predict.replica import ReplicaModel
from meted.predict.setup import DoesNotFitError, Setup
from meted.sim.scenario import SimDeployment, SimRequest

WIDTHS = (1, 2, 4, 8)
SHARE = 0.95
SAMPLE = 500
"""Requests of a replay by which an option's rate is found."""
NEAR = 0.03
"""The rate is found this exactly, relative."""
LOAD_BYTES_PER_SECOND = 1e9
"""Weights into device memory, each device beside the others: a local NVMe disk's usual pace."""
START_SECONDS = 20.0
"""An engine's start before it loads and its warming up after."""
MOST_QUEUE = 1_000
MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000}
_LIMIT = re.compile(r"(ttft|tpot)=([0-9]+(?:\.[0-9]+)?)(us|ms|s)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The ways that a model can run on the pool: each kind and width, what runs it, and what is to
    be told."""

    options: tuple[ReplicaOption, ...]
    replicas: Mapping[tuple[str, int], ReplicaModel]
    told: tuple[str, ...]


def parse_limits(text: str) -> SLO:
    """95th percentiles such as `ttft=2s,tpot=200ms`. Raises SpecError."""
    limits = {"ttft": DEFAULT_SLO.ttft_p95, "tpot": DEFAULT_SLO.tpot_p95}
    for part in text.split(","):
        found = _LIMIT.fullmatch(part.strip())
        micros = 0 if found is None else round(float(found[2]) * MICROS[found[3]])
        if found is None or micros <= 0:
            raise SpecError(f"--slo says {part.strip()!r}, expected such as ttft=2s,tpot=200ms")
        limits[found[1]] = Micros(micros)
    return SLO(ttft_p95=limits["ttft"], tpot_p95=limits["tpot"])


def fleet_of(
    architecture: Architecture,
    *,
    pool: Pool,
    facts: Mapping[str, DeviceKind],
    slo: SLO,
    sample: Sequence[SimRequest],
    home: Home,
    weights: Precision | None = None,
    seed: int = 0,
) -> Fleet:
    """Options on every kind of the pool and every width that fits a node and holds the weights.

    requests_per_second is the largest Poisson rate of the sample's lengths at which a replay keeps
    95 % of requests inside the SLO, each of its limits alone; options that keep it at no rate are
    left out. Raises SpecError if none is left.
    """
    arrivals = [Arrival(one.at, one.prompt_tokens, one.output_tokens) for one in sample]
    sizes: dict[str, dict[int, int]] = {}
    for device in pool.devices:
        nodes = sizes.setdefault(device.kind, {})
        nodes[device.node] = nodes.get(device.node, 0) + 1
    options: list[ReplicaOption] = []
    replicas: dict[tuple[str, int], ReplicaModel] = {}
    told: list[str] = []
    for name, nodes in sizes.items():
        kind = facts.get(name)
        if kind is None:
            told.append(f"{name}: not known, so nothing is served on it; describe it with --facts")
            continue
        for width in (one for one in WIDTHS if one <= max(nodes.values())):
            algorithm = usual_algorithm(kind, weights, layout=Parallelism(tensor=width))
            setup = Setup(architecture=architecture, kind=kind, algorithm=algorithm)
            try:
                belief = believe(setup, Calibrations(home.calibrations))
                replica = belief.before.replica(belief.setup)
            except (DoesNotFitError, ValueError) as error:
                told.append(f"{width}x{name}: {error}")
                continue
            found = _largest_rate(replica, arrivals, slo, seed)
            if found is None:
                told.append(f"{width}x{name}: outside the SLO even for one request at a time")
                continue
            rate, felt = found
            replicas[name, width] = replica
            options.append(
                ReplicaOption(
                    kind=name,
                    devices=width,
                    requests_per_second=rate,
                    load=_load(replica),
                    ttft_p95=quantile(felt.ttft, SHARE),
                    tpot_p95=quantile(felt.tpot, SHARE),
                    variant=str(algorithm.weights),
                )
            )
            told.append(f"{width}x{name}: {rate:.2f} requests/s inside the SLO; {belief.origin}")
    if not options:
        raise SpecError(
            f"{architecture.name} can be served on no kind of --pool: {'; '.join(told)}"
        )
    return Fleet(options=tuple(options), replicas=replicas, told=tuple(told))


def deployment_of(
    name: str, fleet: Fleet, *, slo: SLO, requests: Sequence[SimRequest], least: int, most: int
) -> SimDeployment:
    """The deployment with its requests; those longer than every replica's memory are left out."""
    room = min(one.kv_tokens for one in fleet.replicas.values()) // BLOCK_TOKENS * BLOCK_TOKENS
    batch = max(one.max_batch for one in fleet.replicas.values())
    return SimDeployment(
        deployment=Deployment(
            name=DeploymentName(name),
            checkpoint=name,
            task=Task.GENERATE,
            replicas=max(1, least),
            slo=slo,
            max_batch=batch,
            max_queue=MOST_QUEUE,
            least=least,
            most=most,
        ),
        options=fleet.options,
        replicas=fleet.replicas,
        requests=[one for one in requests if one.prompt_tokens + one.output_tokens <= room],
    )


def _load(replica: ReplicaModel) -> Micros:
    seconds = START_SECONDS + replica.weight_bytes / replica.devices / LOAD_BYTES_PER_SECOND
    return Micros(round(seconds * MICROS_PER_SECOND))


def _largest_rate(
    replica: ReplicaModel, arrivals: Sequence[Arrival], slo: SLO, seed: int
) -> tuple[float, Latencies] | None:
    """The largest rate that holds, by bisection, and what is felt at it."""
    room = replica.kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    fitting = [one for one in arrivals if one.prompt_tokens + one.output_tokens <= room]
    if not fitting:
        return None

    def felt(rate: float) -> Latencies:
        made = poisson_sample(fitting, arrivals_per_second=rate, count=SAMPLE, seed=seed)
        return latencies(replay(replica, made))

    def holds(one: Latencies) -> bool:
        return (
            quantile(one.ttft, SHARE) <= slo.ttft_p95 and quantile(one.tpot, SHARE) <= slo.tpot_p95
        )

    low, best = 0.01, felt(0.01)
    if not holds(best):
        return None
    high = 2 * low
    while holds(found := felt(high)) and high < 10_000:
        low, best, high = high, found, 2 * high
    while high - low > NEAR * high:
        middle = (low + high) / 2
        found = felt(middle)
        if holds(found):
            low, best = middle, found
        else:
            high = middle
    return low, best
