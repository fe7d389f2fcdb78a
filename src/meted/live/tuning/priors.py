"""What the predictor says of each configuration before it is measured: cost of one traffic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from meted.domain.configuration import Configuration
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.engine_choice import LLAMACPP, OPENVINO
from meted.domain.engine_settings import CachePrecision, EngineSettings
from meted.live.calibrations import Calibrations, believe, served_setup
from meted.live.checkpoints import Checkpoint, CheckpointRegistry
from meted.live.facts.errors import FactError
from meted.optimise.belief import Candidate, Trait
from meted.predict.batching import Arrival
from meted.predict.replay import busy_micros
from meted.predict.replay import replay as predicted_replay
from meted.predict.setup import DoesNotFitError

ALONE = 0.05
"""Deviation of log cost for each setting of a configuration that is not the default: what settings
do together and not each by itself."""
UNKNOWN = 0.6
"""Of a checkpoint that the predictor can say nothing about."""
ENGINE, CHECKPOINT, THREADS, SPECULATION, SETTING = 0.3, 0.2, 0.3, 0.4, 0.15
"""Of what configurations with one engine, checkpoint, number of threads, speculation, or other
setting have in common. The predictor was made for none of the speculations."""


def candidates(
    configurations: Sequence[Configuration],
    arrivals: Sequence[Arrival],
    *,
    registry: CheckpointRegistry,
    kind: DeviceKind,
    threads: int,
    calibrations: Calibrations,
    usd_per_device_hour: float,
    infeasible: Mapping[str, str],
) -> list[Candidate]:
    """A prior for each configuration. infeasible: by checkpoint, why it cannot be used."""
    costs = [
        _log_cost(one, arrivals, registry, kind, threads, calibrations, usd_per_device_hour)
        for one in configurations
    ]
    return as_candidates(configurations, costs, infeasible)


def as_candidates(
    configurations: Sequence[Configuration],
    costs: Sequence[float | None],
    infeasible: Mapping[str, str],
) -> list[Candidate]:
    """Candidates of these log costs; None: the predictor knows nothing of the configuration."""
    known = [one for one in costs if one is not None]
    # What the predictor does not know is taken for as dear as the others, with more doubt.
    usual = sum(known) / len(known) if known else 0.0
    return [
        _candidate(one, cost, usual, infeasible.get(one.checkpoint))
        for one, cost in zip(configurations, costs, strict=True)
    ]


def _candidate(
    one: Configuration, log_cost: float | None, usual: float, infeasible: str | None
) -> Candidate:
    traits = _traits(one, CHECKPOINT if log_cost is not None else UNKNOWN)
    return Candidate(
        key=str(one),
        traits=traits,
        log_cost=usual if log_cost is None else log_cost,
        doubt=ALONE * max(1, len(traits) - 2),
        infeasible=infeasible,
    )


def _traits(one: Configuration, checkpoint_doubt: float) -> tuple[Trait, ...]:
    """Engine, checkpoint under it, and each setting that is not the default."""
    engine = one.settings.engine or OPENVINO
    plain, found = EngineSettings(), [(engine, ENGINE), (one.checkpoint, checkpoint_doubt)]
    for field in fields(EngineSettings):
        value = getattr(one.settings, field.name)
        if field.name != "engine" and value != getattr(plain, field.name):
            doubt = {"threads": THREADS, "speculation": SPECULATION}.get(field.name, SETTING)
            found.append((f"{field.name} {value}", doubt))
    if one.max_batch != Configuration(checkpoint=one.checkpoint).max_batch:
        found.append((f"batch {one.max_batch}", SETTING))
    return tuple(
        Trait(name=name if name == engine else f"{engine} {name}", doubt=doubt)
        for name, doubt in found
    )


def _log_cost(
    one: Configuration,
    arrivals: Sequence[Arrival],
    registry: CheckpointRegistry,
    kind: DeviceKind,
    threads: int,
    calibrations: Calibrations,
    usd_per_device_hour: float,
) -> float | None:
    """Log of dollars per million tokens, or None where the predictor does not know the model.

    Device time is that of all threads while the replica has work, as engines keep them busy.
    """
    checkpoint: Checkpoint = registry.get(one.checkpoint)
    try:
        setup = served_setup(checkpoint, kind, max_batch=one.max_batch)
        algorithm = replace(setup.algorithm, chunk_tokens=one.settings.chunk_tokens)
        if one.settings.cache not in (CachePrecision.AUTO, CachePrecision.INT8):
            algorithm = replace(algorithm, kv=_precision(one.settings.cache))
        setup = replace(setup, algorithm=algorithm)
        replica = believe(setup, calibrations).before.replica(setup)
    except (FactError, DoesNotFitError, ValueError):
        return None
    cached = one.settings.prefix_cache or one.settings.engine == LLAMACPP
    asked = [
        item if cached else Arrival(item.at, item.prompt_tokens, item.output_tokens)
        for item in arrivals
    ]
    busy = busy_micros(predicted_replay(replica, asked)) * (one.settings.threads or threads)
    tokens = sum(item.prompt_tokens + item.output_tokens for item in arrivals)
    return math.log(busy / 3.6e9 * usd_per_device_hour / tokens * 1e6)


def _precision(cache: CachePrecision) -> Precision:
    return Precision(cache.value)
