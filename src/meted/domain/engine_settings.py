"""A, as a replica's engine is set: which engine, and how it batches, caches and speculates."""

from dataclasses import dataclass
from enum import StrEnum

OPENVINO = "openvino"
LLAMACPP = "llamacpp"


class CachePrecision(StrEnum):
    """How keys and values are kept. AUTO: what the engine takes for this processor."""

    AUTO = "auto"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLookup:
    """Speculation without a model: what followed the last `ngram` tokens when they came before in
    the prompt is proposed, `tokens` at a time (Saxena 2023)."""

    tokens: int = 5
    ngram: int = 3

    def __post_init__(self) -> None:
        _at_least("speculation.tokens", self.tokens, 1)
        _at_least("speculation.ngram", self.ngram, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftModel:
    """Speculation with a small checkpoint of the same vocabulary (Leviathan et al. 2023)."""

    checkpoint: str
    tokens: int = 5

    def __post_init__(self) -> None:
        _at_least("speculation.tokens", self.tokens, 1)


Speculation = PromptLookup | DraftModel


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What a user may set of a replica's engine; the defaults are what `meted up` runs.

    engine: openvino, llamacpp, or a factory as module:Name; None: the engine of the task.
    threads: None for as many as the plan gives it devices. chunk_tokens: most tokens of a step.
    context_tokens: most tokens of prompt and answer together; None for the checkpoint's own.
    """

    engine: str | None = None
    threads: int | None = None
    chunk_tokens: int = 256
    cache: CachePrecision = CachePrecision.AUTO
    cache_gib: int = 1
    prefix_cache: bool = True
    speculation: Speculation | None = None
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        _at_least("chunk_tokens", self.chunk_tokens, 1)
        _at_least("cache_gib", self.cache_gib, 1)
        if self.threads is not None:
            _at_least("threads", self.threads, 1)
        if self.context_tokens is not None:
            _at_least("context_tokens", self.context_tokens, 2)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}, expected {least} or more")
