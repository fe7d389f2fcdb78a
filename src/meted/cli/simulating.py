"""What `meted simulate` asks, as scenarios: each policy meets the same work, seed by seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meted.cli.simulate_bounds import HOUR, Bounded, BrokenPlanError, broken, too_long
from meted.cli.simulate_serving import Fleet, deployment_of, fleet_of, parse_limits
from meted.cli.simulate_traces import Source, SpecError, read_source
from meted.domain.allocation import JobOption
from meted.domain.deployment import SLO
from meted.domain.units import (
    MICROS_PER_SECOND,
    DeploymentName,
    JobName,
    Micros,
)
from meted.live.facts import FactsFile, resolve_model
from meted.live.home import Home
from meted.live.job_traces import TracedJob
from meted.live.scenario_file import ReadPool, read_pool
from meted.policy.allocation import POLICIES, make_policy
from meted.policy.protocol import Policy
from meted.sim.books import Books, account
from meted.sim.faults import node_failures, spot_interruptions, together
from meted.sim.measures import Limits
from meted.sim.result import Result
from meted.sim.scenario import Outage, Scenario, SimJob, SimRequest, Table
from meted.sim.world import simulate

FAULT_HOURS = 30 * 24
"""Where a simulation has no end, devices fail and vanish until so long after the last arrival."""
SAMPLE = 2_000
"""Requests, evenly spread over the trace, whose lengths stand for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `meted simulate`. mtbf, mttr: of nodes; None: none fails."""

    traces: tuple[str, ...]
    pool: str
    policies: tuple[str, ...]
    settings: tuple[str, ...] = ()
    seeds: int = 1
    interval: Micros = Micros(60 * MICROS_PER_SECOND)
    span: Micros | None = None
    at_once: bool = False
    restart: Micros = Micros(0)
    save: Micros | None = None
    mtbf: Micros | None = None
    mttr: Micros = Micros(HOUR)
    model: str | None = None
    slo: str | None = None
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All that scenarios need. told: where facts come from, for people."""

    asked: Asked
    pool: ReadPool
    policies: Mapping[str, Policy]
    sources: tuple[Source, ...]
    fleet: Fleet | None
    slo: SLO | None
    told: tuple[str, ...] = field(default=())

    @property
    def limits(self) -> Limits:
        """What its deployment owes."""
        if self.slo is None or self.asked.model is None:
            return Limits()
        return Limits(slos={DeploymentName(self.asked.model): self.slo})


def study_of(asked: Asked, *, home: Home, facts: FactsFile) -> Study:
    """The study behind options.

    Raises SpecError, PoolError, JobTraceError, TrafficError, FactError, UnknownFactError, or
    ValueError for a policy or its parameter.
    """
    policies = _policies(asked)
    pool = read_pool(asked.pool, more=facts.devices)
    span = None if asked.span is None else asked.span / MICROS_PER_SECOND
    sources = tuple(read_source(text, span=span) for text in asked.traces)
    serving = [one for one in sources if not one.jobs]
    told = [f"work: {one.told}" for one in sources]
    told += [f"price of {one}" for one in pool.told]
    fleet = slo = None
    if serving and asked.model is None:
        raise SpecError(f"--trace has {serving[0].told}; name the model that answers: --model")
    if not serving and (asked.model is not None or asked.slo is not None):
        raise SpecError("--model and --slo are of requests, but no --trace has any; add one")
    if serving and asked.model is not None:
        slo = parse_limits(asked.slo or "ttft=2s,tpot=200ms")
        found = resolve_model(asked.model, home=home, facts=facts)
        fleet = fleet_of(
            found.architecture,
            pool=pool.pool,
            facts=pool.facts,
            slo=slo,
            sample=_sample(_requests(serving, 0, asked.span)),
            home=home,
            weights=found.weights,
        )
        told += [f"model: {found.architecture.name}, {found.architecture.source}", *fleet.told]
    study = Study(asked=asked, pool=pool, policies=policies, sources=sources, fleet=fleet, slo=slo)
    _, left_out = _jobs(study, 0)
    if left_out:
        told.append(f"{left_out} jobs are left out: the pool has no devices that they can run on")
    return replace(study, told=tuple(told))


def run_study(
    study: Study, done: Callable[[str, int], None] = lambda policy, seed: None
) -> dict[str, list[Result]]:
    """Every policy with every seed. done: is told of each run that has ended.

    Raises BrokenPlanError if a policy's plan cannot be, SpecError if a seed brings no work.
    """
    results: dict[str, list[Result]] = {name: [] for name in study.policies}
    for seed in range(study.asked.seeds):
        for name in study.policies:
            scenario = scenario_of(study, name, seed)
            try:
                results[name].append(simulate(scenario))
            except BrokenPlanError as error:
                raise BrokenPlanError(f"--policy {name} (seed {seed}): {error}") from error
            except ValueError as error:
                raise BrokenPlanError(broken(name, seed, error)) from error
            done(name, seed)
    return results


def books_of(study: Study, results: Mapping[str, Sequence[Result]]) -> dict[str, list[Books]]:
    """The checked books of each run, seed by seed. Raises BooksError where they do not balance."""
    return {
        policy: [account(run, study.pool.pool) for run in runs] for policy, runs in results.items()
    }


def scenario_of(study: Study, policy: str, seed: int) -> Scenario:
    """One run. Raises SpecError if the seed brings no work."""
    asked = study.asked
    jobs, _ = _jobs(study, seed)
    serving = [one for one in study.sources if not one.jobs]
    deployments = ()
    if study.fleet is not None and study.slo is not None and asked.model is not None:
        requests = _requests(serving, seed, asked.span)
        most = asked.most
        if most is None:
            least_devices = min(one.devices for one in study.fleet.options)
            most = max(1, len(study.pool.pool.devices) // least_devices)
        deployments = (
            deployment_of(
                asked.model,
                study.fleet,
                slo=study.slo,
                requests=requests,
                least=asked.least,
                most=most,
            ),
        )
    if not jobs and not any(one.requests for one in deployments):
        raise SpecError(f"no job and no request comes with seed {seed}; take a longer --for")
    last = max((one.arrived for one in jobs), default=0)
    chosen = study.policies[policy]
    if asked.span is None:
        chosen = Bounded(policy=chosen, until=too_long(jobs, pause=asked.restart + asked.interval))
    return Scenario(
        pool=study.pool.pool,
        policy=chosen,
        interval=asked.interval,
        deployments=deployments,
        jobs=jobs,
        outages=_outages(study, asked.span or Micros(last + FAULT_HOURS * HOUR), seed),
        horizon=asked.span,
        at_once=asked.at_once,
        seed=seed,
    )


def _policies(asked: Asked) -> dict[str, Policy]:
    parameters: dict[str, dict[str, float]] = {name: {} for name in asked.policies}
    for setting in asked.settings:
        place, equals, value = setting.partition("=")
        policy, dot, name = place.partition(".")
        try:
            number = float(value)
        except ValueError:
            number = None
        if not (equals and dot and name) or number is None:
            raise SpecError(f"--set says {setting!r}, expected such as max_min.keep_seconds=600")
        if policy not in parameters:
            raise SpecError(
                f"--set {setting} is of a policy that --policy does not name; it names "
                f"{', '.join(asked.policies)}"
            )
        parameters[policy][name] = number
    for name in asked.policies:
        if name not in POLICIES:
            raise SpecError(f"--policy names {name!r}, expected some of {', '.join(POLICIES)}")
    return {name: make_policy(name, given) for name, given in parameters.items()}


def _requests(sources: Sequence[Source], seed: int, span: Micros | None) -> tuple[SimRequest, ...]:
    """The requests of all sources in order, those before the end."""
    found = [one for source in sources for one in source.draw(seed).requests]
    kept = [one for one in found if span is None or one.at < span]
    return tuple(sorted(kept, key=lambda one: one.at))


def _sample(requests: Sequence[SimRequest]) -> Sequence[SimRequest]:
    if not requests:
        raise SpecError("--trace brings no request before the end; take a longer --for")
    return requests[:: max(1, len(requests) // SAMPLE)]


def _jobs(study: Study, seed: int) -> tuple[tuple[SimJob, ...], int]:
    """The jobs of all sources that the pool can run, and how many it cannot."""
    asked = study.asked
    pool = study.pool.pool
    sources = [one for one in study.sources if one.jobs]
    made: list[SimJob] = []
    left_out = 0
    for number, source in enumerate(sources):
        for job in source.draw(seed).jobs:
            if asked.span is not None and job.arrived >= asked.span:
                continue
            options = _options(job, study.pool)
            if not options:
                left_out += 1
                continue
            prefix = f"{number + 1}-" if len(sources) > 1 else ""
            made.append(
                SimJob(
                    name=JobName(f"{prefix}{job.name}"),
                    arrived=job.arrived,
                    steps=job.steps,
                    model=Table(rows=options),
                    tenant=job.tenant,
                    weight=job.weight,
                    deadline=job.deadline,
                    restart=asked.restart,
                    save=asked.save,
                )
            )
    if left_out and not made:
        kinds = ", ".join(sorted({one.kind for one in pool.devices}))
        raise SpecError(
            f"none of the {left_out} jobs can run on --pool with its kinds {kinds}; give it kinds "
            "that the trace knows, and as many devices as a job takes"
        )
    return tuple(sorted(made, key=lambda one: one.arrived)), left_out


def _options(job: TracedJob, pool: ReadPool) -> tuple[JobOption, ...]:
    """The job's options by the pool's own names of kinds, those that are not too wide for it."""
    counts: dict[str, int] = {}
    for device in pool.pool.devices:
        counts[device.kind] = counts.get(device.kind, 0) + 1
    found: list[JobOption] = []
    for kind, count in counts.items():
        known = pool.facts.get(kind)
        names = {kind, kind if known is None else known.name.partition("-")[0], ""}
        rows = (one for one in job.options if one.kind in names and one.devices <= count)
        found += [replace(one, kind=kind) for one in rows]
    return tuple(found)


def _outages(study: Study, end: Micros, seed: int) -> tuple[Outage, ...]:
    """Nodes that fail, if they were asked for, and spot devices that are taken back."""
    asked, pool = study.asked, study.pool.pool
    found: list[tuple[Outage, ...]] = []
    if asked.mtbf is not None:
        found.append(node_failures(pool, mtbf=asked.mtbf, mttr=asked.mttr, until=end, seed=seed))
    for kind, how in study.pool.vanishing.items():
        found.append(
            spot_interruptions(
                pool,
                per_device_hour={kind: how.per_device_hour},
                away=how.back,
                until=end,
                seed=seed,
            )
        )
    return together(*found)
