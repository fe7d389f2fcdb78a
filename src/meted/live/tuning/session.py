"""A search of serving prepared: traffic, prompts, variants with their verdicts, priors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meted.domain.configuration import Configuration
from meted.domain.search_job import ServingSearch
from meted.domain.units import NANOS_PER_SECOND, Micros, NanoUSD
from meted.live.calibrations import Calibrations
from meted.live.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointRegistry,
    load_tokenizer,
)
from meted.live.checkpoints.builtin import BUILTINS
from meted.live.checkpoints.checkpoint import MODEL
from meted.live.engines.gguf_weights import gguf_of
from meted.live.predicted import local_kind
from meted.live.traffic import HOUSE, TrafficError, parse_traffic, read_trace
from meted.live.training.data import encode_documents, read_documents
from meted.live.training.encoder import make_encoder
from meted.live.tuning.grid import LEVERS, check_levers, grid
from meted.live.tuning.priors import candidates
from meted.live.tuning.recorded import Recorded, with_prompts
from meted.optimise.search import Search
from meted.optimise.search_values import Budget
from meted.optimise.slo_evidence import SloLimits
from meted.predict.batching import Arrival

LONGEST_TEXT = 200_000
"""Tokens of the user's text from which prompts are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a search runs and what it knows: checkpoints, what was measured of the cores, which of
    them it may use, and nano-USD for an hour of one."""

    registry: CheckpointRegistry
    calibrations: Path
    devices: tuple[int, ...]
    price: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A search about to begin. loss: nats per token of each variant more than its parent's, where
    it was measured. default: what `meted up` runs."""

    search: Search
    configurations: tuple[Configuration, ...]
    traffic: tuple[Recorded, ...]
    loss: dict[str, float]
    default: Configuration


def arrivals_of(
    spec: ServingSearch, registry: CheckpointRegistry, recorded: Callable[[], Sequence[Arrival]]
) -> list[Arrival]:
    """The requests that every configuration will answer, the first at moment 0: the traffic's first
    that the model's context holds, or the house's last. recorded: the house's own, read if asked
    for. Raises TrafficError or CheckpointError.
    """
    check_levers(spec.levers or LEVERS)
    house = spec.traffic == HOUSE
    found = recorded() if house else _read(spec)
    context = _base(spec, registry).context_tokens
    kept = [one for one in found if one.prompt_tokens + one.output_tokens < context]
    kept = kept[-spec.requests :] if house else kept[: spec.requests]
    if len(kept) < 2 or kept[-1].at <= kept[0].at:
        raise TrafficError(
            f"the traffic {spec.traffic!r} has {len(kept)} requests within the model's context of "
            f"{context} tokens, expected two or more at different moments; give a longer trace"
        )
    first, span = kept[0].at, (kept[-1].at - kept[0].at) / 1e6
    factor = 1.0 if spec.rate is None else (len(kept) - 1) / span / spec.rate
    return [replace(one, at=Micros(round((one.at - first) * factor))) for one in kept]


def prepare(spec: ServingSearch, arrivals: Sequence[Arrival], machine: Machine) -> Prepared:
    """Raises CheckpointError or ValueError for what cannot be searched."""
    registry, threads = machine.registry, len(machine.devices)
    parent = _base(spec, registry)
    variants = _variants(registry, parent, spec.variants)
    configurations = grid(
        [one.name for one in variants if (one.folder / MODEL).exists()],
        threads=threads,
        levers=spec.levers or LEVERS,
        llamacpp=[one.name for one in variants if _for_llamacpp(one)],
        drafts=spec.drafts,
    )
    found = candidates(
        configurations,
        arrivals,
        registry=registry,
        kind=local_kind(machine.calibrations, threads),
        threads=threads,
        calibrations=Calibrations(machine.calibrations),
        usd_per_device_hour=machine.price / NANOS_PER_SECOND,
        infeasible={
            one.name: f"quality: {one.quality.reason}"
            for one in variants
            if one.quality is not None and not one.quality.passed
        },
    )
    return Prepared(
        search=Search(
            candidates=tuple(found),
            budget=Budget(effort=spec.effort, dollars=spec.budget),
            limits=SloLimits(
                ttft_p95_s=spec.slo.ttft_p95 / 1e6, tpot_p95_s=spec.slo.tpot_p95 / 1e6
            ),
        ),
        configurations=tuple(configurations),
        traffic=tuple(_prompts(spec, arrivals, parent)),
        loss={
            one.name: one.quality.text.loss_increase.expected if one.quality else 0.0
            for one in variants
        },
        default=Configuration(checkpoint=spec.base),
    )


def _base(spec: ServingSearch, registry: CheckpointRegistry) -> Checkpoint:
    name = spec.base
    return registry.ensure_builtin(name) if name in BUILTINS else registry.get(name)


def _variants(
    registry: CheckpointRegistry, parent: Checkpoint, wanted: Sequence[str] | None
) -> list[Checkpoint]:
    """The checkpoint itself first, then what was made of it, or what the user names."""
    if wanted is not None:
        return [parent, *(registry.get(one) for one in wanted if one != parent.name)]
    made = [one for one in registry.list() if one.quality and one.quality.parent == parent.name]
    return [parent, *made]


def _for_llamacpp(one: Checkpoint) -> bool:
    try:
        return gguf_of(one).exists()
    except CheckpointError:
        return False


def _read(spec: ServingSearch) -> Sequence[Arrival]:
    path = Path(spec.traffic).expanduser()
    if path.is_file():
        return read_trace(path)
    return parse_traffic(spec.traffic, seed=spec.seed).traffic.sample


def _prompts(
    spec: ServingSearch, arrivals: Sequence[Arrival], parent: Checkpoint
) -> list[Recorded]:
    tokenizer = load_tokenizer(parent)
    encoder = make_encoder(tokenizer)
    ids: list[int] = []
    for document in read_documents(Path(spec.data)):
        for part in encode_documents([document], encoder):
            ids += np.asarray(part).tolist()
        if len(ids) >= LONGEST_TEXT:
            break
    return with_prompts(
        arrivals, ids, lambda part: str(tokenizer.decode(list(part))), seed=spec.seed
    )
