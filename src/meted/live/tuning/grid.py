"""Which configurations a search of serving looks at: variants times engines times settings."""

from collections.abc import Sequence
from dataclasses import replace

from meted.domain.configuration import Configuration
from meted.domain.engine_choice import LLAMACPP
from meted.domain.engine_settings import (
    CachePrecision,
    EngineSettings,
    draft_model,
    prompt_lookup,
)

LEVERS = ("engine", "threads", "batch", "chunk", "prefix", "cache", "speculation")
BATCHES = (1, 4, 16, 32)
CHUNKS = (64, 256, 1024)


def check_levers(levers: Sequence[str]) -> None:
    """Raises ValueError for a lever that there is not."""
    unknown = [one for one in levers if one not in LEVERS]
    if unknown:
        raise ValueError(f"there is no lever {unknown[0]!r}; there are: {', '.join(LEVERS)}")


def grid(
    variants: Sequence[str],
    *,
    threads: int,
    levers: Sequence[str] = LEVERS,
    llamacpp: Sequence[str] = (),
    drafts: Sequence[str] = (),
) -> list[Configuration]:
    """The default of each variant; each lever on it alone; fewer threads with prompt lookup.

    llamacpp: variants that the second engine can read. drafts: checkpoints that may draft.
    Raises ValueError for a lever that there is not.
    """
    check_levers(levers)
    found: list[Configuration] = []
    for variant in variants:
        base = Configuration(checkpoint=variant)
        found.append(base)
        for one in _settings(base.settings, threads, levers, drafts, variant):
            found.append(replace(base, settings=one))
        if "batch" in levers:
            found += [replace(base, max_batch=one) for one in BATCHES if one != base.max_batch]
    if "engine" in levers:
        for variant in llamacpp:
            base = Configuration(checkpoint=variant, settings=EngineSettings(engine=LLAMACPP))
            found.append(base)
            if "threads" in levers and threads > 1:
                found.append(replace(base, settings=replace(base.settings, threads=1)))
            if "batch" in levers:
                found += [replace(base, max_batch=one) for one in BATCHES if one < base.max_batch]
    return list(dict.fromkeys(found))


def _settings(
    base: EngineSettings,
    threads: int,
    levers: Sequence[str],
    drafts: Sequence[str],
    variant: str,
) -> list[EngineSettings]:
    found: list[EngineSettings] = []
    if "threads" in levers:
        found += [replace(base, threads=one) for one in range(1, threads)]
    if "chunk" in levers:
        found += [replace(base, chunk_tokens=one) for one in CHUNKS if one != base.chunk_tokens]
    if "prefix" in levers:
        found.append(replace(base, prefix_cache=not base.prefix_cache))
    if "cache" in levers:
        found.append(replace(base, cache=CachePrecision.FP16))
    if "speculation" in levers:
        lookup = replace(base, speculation=prompt_lookup())
        found.append(lookup)
        # Both save much by themselves, so that together they are the likeliest to save most.
        if "threads" in levers:
            found += [replace(lookup, threads=one) for one in range(1, threads)]
        found += [replace(base, speculation=draft_model(one)) for one in drafts if one != variant]
    return found
