"""A search of serving prepared: traffic, prompts, variants with their verdicts, priors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meted.domain.configuration import Configuration
from meted.domain.deployment import SLO
from meted.domain.pool import Pool
from meted.domain.units import NANOS_PER_SECOND, Micros, NanoUSD
from meted.live.books.recorded import recorded_arrivals
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
from meted.live.home import Home
from meted.live.predicted import local_kind
from meted.live.traffic import HOUSE, TrafficError, parse_traffic, read_trace
from meted.live.training.data import encode_documents, read_documents
from meted.live.training.worker import make_encoder
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
class Asked:
    """What a user asks of a search of serving.

    traffic: `house`, a trace's path, or numbers as in `parse_traffic`. rate: requests per second to
    scale it to. text: a file or folder to cut prompts from. requests: of a full measurement.
    effort: full measurements that the search may spend; budget: or dollars. variants: checkpoints
    to look at besides the one asked for; None for all made of it. drafts: that may draft.
    """

    checkpoint: str
    traffic: str
    text: Path
    slo: SLO
    rate: float | None = None
    requests: int = 48
    effort: float = 6.0
    budget: NanoUSD | None = None
    variants: tuple[str, ...] | None = None
    drafts: tuple[str, ...] = ()
    levers: tuple[str, ...] = LEVERS
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A search about to begin. loss: nats per token of each variant more than its parent's, where
    it was measured. default: what `meted up` runs."""

    search: Search
    configurations: tuple[Configuration, ...]
    traffic: tuple[Recorded, ...]
    loss: dict[str, float]
    default: Configuration


def prepare(asked: Asked, *, home: Home, pool: Pool) -> Prepared:
    """Raises TrafficError, CheckpointError or ValueError for what cannot be searched."""
    check_levers(asked.levers)
    recorded = _recorded(asked, home)
    registry = CheckpointRegistry(home.checkpoints)
    name = asked.checkpoint
    parent = registry.ensure_builtin(name) if name in BUILTINS else registry.get(name)
    variants = _variants(registry, parent, asked.variants)
    threads = len(pool.devices)
    arrivals = _chosen(asked, recorded, parent.context_tokens)
    configurations = grid(
        [one.name for one in variants if (one.folder / MODEL).exists()],
        threads=threads,
        levers=asked.levers,
        llamacpp=[one.name for one in variants if _for_llamacpp(one)],
        drafts=asked.drafts,
    )
    price = pool.price.nano_usd_per_device_hour / NANOS_PER_SECOND
    found = candidates(
        configurations,
        arrivals,
        registry=registry,
        kind=local_kind(home, threads),
        threads=threads,
        calibrations=Calibrations(home.calibrations),
        usd_per_device_hour=price,
        infeasible={
            one.name: f"quality: {one.quality.reason}"
            for one in variants
            if one.quality is not None and not one.quality.passed
        },
    )
    return Prepared(
        search=Search(
            candidates=tuple(found),
            budget=Budget(effort=asked.effort, dollars=asked.budget),
            limits=SloLimits(
                ttft_p95_s=asked.slo.ttft_p95 / 1e6, tpot_p95_s=asked.slo.tpot_p95 / 1e6
            ),
        ),
        configurations=tuple(configurations),
        traffic=tuple(_prompts(asked, arrivals, parent)),
        loss={
            one.name: one.quality.text.loss_increase.expected if one.quality else 0.0
            for one in variants
        },
        default=Configuration(checkpoint=name),
    )


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


def _recorded(asked: Asked, home: Home) -> Sequence[Arrival]:
    """All of the traffic."""
    if asked.traffic == HOUSE:
        return recorded_arrivals(home.store())
    path = Path(asked.traffic).expanduser()
    if path.is_file():
        return read_trace(path)
    return parse_traffic(asked.traffic, seed=asked.seed).traffic.sample


def _chosen(asked: Asked, found: Sequence[Arrival], context: int) -> list[Arrival]:
    """The first `requests` that the model's context holds, from moment 0."""
    kept = [one for one in found if one.prompt_tokens + one.output_tokens < context]
    kept = kept[: asked.requests]
    if len(kept) < 2 or kept[-1].at <= kept[0].at:
        raise TrafficError(
            f"the traffic {asked.traffic!r} has {len(kept)} requests within the model's context of "
            f"{context} tokens, expected two or more at different moments; give a longer trace"
        )
    first, span = kept[0].at, (kept[-1].at - kept[0].at) / 1e6
    factor = 1.0 if asked.rate is None else (len(kept) - 1) / span / asked.rate
    return [replace(one, at=Micros(round((one.at - first) * factor))) for one in kept]


def _prompts(asked: Asked, arrivals: Sequence[Arrival], parent: Checkpoint) -> list[Recorded]:
    tokenizer = load_tokenizer(parent)
    encoder = make_encoder(tokenizer)
    ids: list[int] = []
    for document in read_documents(asked.text):
        for part in encode_documents([document], encoder):
            ids += np.asarray(part).tolist()
        if len(ids) >= LONGEST_TEXT:
            break
    return with_prompts(
        arrivals, ids, lambda part: str(tokenizer.decode(list(part))), seed=asked.seed
    )
