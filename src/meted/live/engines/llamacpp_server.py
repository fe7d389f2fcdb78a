"""llama.cpp's own server inside this process, as settings ask for it."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportMissingTypeStubs=false

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meted.domain.architecture import Architecture
from meted.domain.engine_settings import CachePrecision, EngineSettings, SpeculationKind
from meted.live.checkpoints.checkpoint import Checkpoint, read_checkpoint
from meted.live.engines.context import context_within
from meted.live.engines.gguf_weights import gguf_of
from meted.live.facts.gguf_header import read_gguf_facts
from meted.predict.counting import kv_elements_per_token

GIB = 1 << 30
MICRO_BATCH = 512
BITS = {
    CachePrecision.AUTO: 16.0,
    CachePrecision.FP16: 16.0,
    CachePrecision.BF16: 16.0,
    CachePrecision.INT8: 8.5,
    CachePrecision.INT4: 4.5,
}
"""Bits of a value in the cache; Q8_0 and Q4_0 keep a 16-bit scale for each 32 values."""
TYPES = {
    CachePrecision.AUTO: "GGML_TYPE_F16",
    CachePrecision.FP16: "GGML_TYPE_F16",
    CachePrecision.BF16: "GGML_TYPE_BF16",
    CachePrecision.INT8: "GGML_TYPE_Q8_0",
    CachePrecision.INT4: "GGML_TYPE_Q4_0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRoom:
    """Tokens that the cache holds, and those of one request. shared: all requests draw from one
    pool, because `max_batch` whole contexts would not fit; attention then looks over all of it."""

    total: int
    context: int
    shared: bool


def cache_room(
    architecture: Architecture, checkpoint: Checkpoint, settings: EngineSettings, max_batch: int
) -> CacheRoom:
    """How the cache is laid out.

    A token takes its keys and values of all layers, each of as many bits as the precision has.
    """
    bits = kv_elements_per_token(architecture) * BITS[settings.cache]
    fits = int(settings.cache_gib * GIB * 8 / bits)
    context = context_within(checkpoint, settings, keeps=fits)
    if context * max_batch <= fits:
        return CacheRoom(total=context * max_batch, context=context, shared=False)
    return CacheRoom(total=fits // 256 * 256, context=context, shared=True)


def start_server(
    checkpoint: Checkpoint,
    room: CacheRoom,
    *,
    threads: int,
    max_batch: int,
    settings: EngineSettings,
) -> Any:
    """A server with its weights loaded. Raises ValueError, naming the key, if it cannot be so."""
    # Threads that wait must sleep: spinning, they burn the cores that others could use, and beside
    # other work a step then waits for a thread that has no core (more than tenfold, with 13 threads
    # ready to run on 2 cores; November 2026). Read when libgomp is loaded, by the import below.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = str(gguf_of(checkpoint))
    params.n_ctx, params.n_parallel, params.kv_unified = room.total, max_batch, room.shared
    params.n_batch = settings.chunk_tokens
    params.n_ubatch = min(settings.chunk_tokens, MICRO_BATCH)
    for pool in (params.cpuparams, params.cpuparams_batch):
        pool.n_threads = threads
    _set_cache(params, settings, xllamacpp)
    _set_speculation(params, checkpoint.folder.parent, threads, settings, xllamacpp)
    _shut_doors(params)
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ValueError(
            f"llama.cpp cannot load {params.model.path} with these settings: {error}"
        ) from error


def _set_cache(params: Any, settings: EngineSettings, xllamacpp: Any) -> None:
    kind = getattr(xllamacpp.ggml_type, TYPES[settings.cache])
    params.cache_type_k = params.cache_type_v = kind
    if settings.cache in (CachePrecision.INT8, CachePrecision.INT4):
        # Quantised values are read by the fused attention only.
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.cache_prompt = settings.prefix_cache
    # Prompts of ended requests stay in the cache, bounded by cache_gib, and nowhere else.
    params.cache_ram_mib, params.cache_idle_slots = 0, False


def _set_speculation(
    params: Any, checkpoints: Path, threads: int, settings: EngineSettings, xllamacpp: Any
) -> None:
    speculation = settings.speculation
    if speculation is None:
        return
    kinds = xllamacpp.common_speculative_type
    if speculation.kind is SpeculationKind.PROMPT_LOOKUP:
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        params.speculative.ngram_simple.size_n = speculation.match_tokens
        params.speculative.ngram_simple.size_m = speculation.tokens
        return
    assert speculation.checkpoint is not None
    draft = read_checkpoint(checkpoints / speculation.checkpoint)
    params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    params.speculative.draft.mparams.path = str(gguf_of(draft))
    params.speculative.draft.n_max = speculation.tokens
    for pool in (params.speculative.draft.cpuparams, params.speculative.draft.cpuparams_batch):
        pool.n_threads = threads


def _shut_doors(params: Any) -> None:
    """The server opens a port on the loopback that nobody needs: it is given a key that nobody
    has, and no page."""
    params.api_keys = [secrets.token_hex(32)]
    params.ui, params.endpoint_slots, params.endpoint_props = False, False, False
    params.n_threads_http = 1
    params.verbosity = 0


def facts_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture, from the header of its GGUF."""
    return read_gguf_facts(gguf_of(checkpoint)).architecture
