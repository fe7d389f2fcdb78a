"""A search of variants run to its end: every lever tried on a checkpoint, on the user's text."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from meted.domain.levers import parse_lever
from meted.domain.search_job import VariantSearch
from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
from meted.live.checkpoints.builtin import BUILTINS
from meted.live.checkpoints.lineage import kind_of
from meted.live.training.encoder import make_encoder
from meted.live.variants.text import Amounts, read_judging_text
from meted.live.variants.trials import Trial, Trials
from meted.optimise.gate import Floor

Told = list[dict[str, Any]]
"""Trials of one lever, JSON-ready."""


class Watch(Protocol):
    """Told which lever and which of its parts begins."""

    def lever(self, name: str) -> None: ...

    def begin(self, what: str, parts: int) -> Callable[[], None]:
        """A part of the work begins, itself in `parts`; call the answer after each of these."""
        ...


def search_variants(
    spec: VariantSearch,
    *,
    registry: CheckpointRegistry,
    threads: int,
    watch: Watch,
    known: Mapping[str, Told],
    keep: Callable[[str, Told], None],
) -> Told:
    """All trials, lever by lever. known: of levers that were tried before, which are not again.

    keep: told each lever's trials once all of them are judged.
    Raises CheckpointError or ValueError for what cannot be searched.
    """
    levers = [parse_lever(one, training_steps=spec.training_steps) for one in spec.levers]
    with registry.workplace() as scratch:
        trials = _trials(spec, registry, threads, watch, scratch)
        found: Told = []
        for lever in levers:
            watch.lever(lever.name)
            told = known.get(lever.name)
            if told is None:
                told = plain(trials.run(lever))
                keep(lever.name, told)
            found += told
    return found


def _trials(
    spec: VariantSearch, registry: CheckpointRegistry, threads: int, watch: Watch, scratch: Path
) -> Trials:
    begin, base = watch.begin, spec.base
    begin("reading the checkpoint and the text", 1)
    checkpoint = registry.ensure_builtin(base) if base in BUILTINS else registry.get(base)
    text = read_judging_text(
        Path(spec.data),
        make_encoder(load_tokenizer(checkpoint)),
        Amounts(blocks=spec.blocks, questions=spec.questions, seed=spec.seed),
    )
    floor = Floor(
        most_loss_increase=spec.most_loss_increase,
        most_accuracy_drop=spec.most_accuracy_drop,
        most_kl=spec.most_kl,
    )
    return Trials(
        registry=registry,
        checkpoint=checkpoint,
        text=text,
        floor=floor,
        keep=spec.keep,
        threads=threads,
        scratch=scratch,
        begin=begin,
    )


def plain(trials: Iterable[Trial]) -> Told:
    """Trials as JSON."""
    return [{**asdict(one), "kind": kind_of(one.step)} for one in trials]
