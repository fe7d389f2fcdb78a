"""What the predictor says of each configuration before it is measured: cost of one traffic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from meted.domain.configuration import Configuration
from meted.domain.device_kind import DeviceKind, Precision
from meted.domain.engine_choice import LLAMACPP, OPENVINO
from meted.domain.engine_settings import CachePrecision
from meted.live.calibrations import Calibrations, believe, served_setup
from meted.live.checkpoints import Checkpoint, CheckpointRegistry
from meted.live.facts.errors import FactError
from meted.optimise.belief import Candidate
from meted.predict.batching import Arrival
from meted.predict.replay import busy_micros
from meted.predict.replay import replay as predicted_replay
from meted.predict.setup import DoesNotFitError

KNOWN, FOREIGN, UNKNOWN = 0.15, 0.3, 0.6
"""Deviation of log cost within a family: of configurations that the predictor was made for, of
those whose engine or speculation it does not know, and of those that it can say nothing about."""


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
    engine = one.settings.engine or OPENVINO
    known = engine == OPENVINO and one.settings.speculation is None
    doubt = UNKNOWN if log_cost is None else KNOWN if known else FOREIGN
    speculates = "" if one.settings.speculation is None else f" {one.settings.speculation.kind}"
    return Candidate(
        key=str(one),
        family=f"{engine} {one.checkpoint}{speculates}",
        log_cost=usual if log_cost is None else log_cost,
        doubt=doubt,
        infeasible=infeasible,
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
