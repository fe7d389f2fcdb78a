"""The continuous batching pipeline as settings ask for it, and its first answer."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from meted.domain.engine_settings import (
    CachePrecision,
    EngineSettings,
    Speculation,
    SpeculationKind,
)
from meted.domain.request import Sampling
from meted.live.checkpoints.checkpoint import MODEL, TOKENIZER_GGUF
from meted.live.checkpoints.facts import last_line
from meted.live.engines.sampling import generation_config

BLOCK_TOKENS = 32
WARM_UP_TOKENS = 256
PRECISIONS = {
    CachePrecision.FP16: "f16",
    CachePrecision.BF16: "bf16",
    CachePrecision.INT8: "u8",
    CachePrecision.INT4: "u4",
}


def make_pipeline(
    folder: Path, tokenizer: Any, *, threads: int, max_batch: int, settings: EngineSettings
) -> Any:
    """A pipeline over one checkpoint. Raises ValueError, naming the key, if it cannot be so."""
    properties: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        # Pinned threads could not give way to the cores that the policy leaves to serving.
        "ENABLE_CPU_PINNING": False,
    }
    if settings.cache is not CachePrecision.AUTO:
        properties["KV_CACHE_PRECISION"] = PRECISIONS[settings.cache]
    with ExitStack() as made:
        options = dict(properties)
        speculation = settings.speculation
        if speculation is not None and speculation.kind is SpeculationKind.PROMPT_LOOKUP:
            options["prompt_lookup"] = True
        elif speculation is not None and speculation.checkpoint is not None:
            draft = _with_tokenizer(folder.parent / speculation.checkpoint, made)
            options["draft_model"] = genai.draft_model(str(draft), "CPU", **properties)
        try:
            return genai.ContinuousBatchingPipeline(
                str(folder), tokenizer, _scheduler(settings, max_batch), "CPU", **options
            )
        except RuntimeError as error:
            if speculation is not None and speculation.checkpoint is not None:
                # Which of several things is wrong with a draft is told first differs by version.
                raise ValueError(
                    f"speculation.checkpoint is {speculation.checkpoint!r}, which cannot draft for "
                    f"{folder.name!r}: {last_line(error)}; take a model of the same family, whose "
                    "vocabulary is the same"
                ) from error
            raise ValueError(last_line(error)) from error


def propose(config: Any, speculation: Speculation | None) -> None:
    """Let a request's configuration say how many tokens are proposed for it at a time."""
    if speculation is None:
        return
    config.num_assistant_tokens = speculation.tokens
    if speculation.kind is SpeculationKind.PROMPT_LOOKUP:
        config.max_ngram_size = speculation.match_tokens


def warm_up(pipeline: Any, settings: EngineSettings) -> int:
    """Answer once, so that no request pays for it; return the number of KV blocks."""
    config = generation_config(Sampling(temperature=0.0), max_tokens=3, ends=())
    config.ignore_eos = True
    propose(config, settings.speculation)
    tokens = np.arange(WARM_UP_TOKENS, dtype=np.int64)[None, :]
    handle = pipeline.add_request(0, openvino.Tensor(tokens), config)
    pipeline.step()
    usage = pipeline.get_metrics().cache_usage
    while pipeline.has_non_finished_requests():
        pipeline.step()
        # A read of what is not there yet would wait for ever.
        while handle.can_read():
            handle.read()
    held = -(-min(WARM_UP_TOKENS, settings.chunk_tokens) // BLOCK_TOKENS)
    return round(held * 100 / usage)


def _scheduler(settings: EngineSettings, max_batch: int) -> Any:
    config: Any = genai.SchedulerConfig()
    config.cache_size = settings.cache_gib
    config.enable_prefix_caching = settings.prefix_cache
    config.dynamic_split_fuse = True
    config.max_num_batched_tokens = settings.chunk_tokens
    config.max_num_seqs = max_batch
    return config


def _with_tokenizer(draft: Path, made: ExitStack) -> Path:
    """A folder with the draft's model and a tokenizer in the only form that a draft is read in.

    A checkpoint imported from GGUF keeps its tokenizer as such; it is converted beside links to
    the model, which go when the pipeline has read them.
    """
    gguf = draft / TOKENIZER_GGUF
    if not gguf.exists():
        return draft
    folder = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="meted-draft-")))
    shutil.copy(gguf, folder / TOKENIZER_GGUF)
    for name in (MODEL, Path(MODEL).with_suffix(".bin").name):
        (folder / name).symlink_to(draft / name)
    genai.Tokenizer(str(folder / TOKENIZER_GGUF), enable_save_ov_model=True)
    return folder
