"""A, as a replica's engine is set: which engine, and how it batches, caches and speculates."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TOKENS = 5
DEFAULT_NGRAM = 3


class CachePrecision(StrEnum):
    """How keys and values are kept. AUTO: what the engine takes for this processor."""

    AUTO = "auto"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class SpeculationKind(StrEnum):
    """Where the proposed tokens come from.

    PROMPT_LOOKUP: what followed the last `ngram` tokens when they came before (Saxena 2023).
    DRAFT: a small checkpoint of the same vocabulary (Leviathan et al. 2023).
    """

    PROMPT_LOOKUP = "prompt_lookup"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Several tokens proposed at once, and verified in one step.

    tokens: proposed at a time. ngram: only of prompt lookup, None for 3. checkpoint: the draft's
    name. Raises ValueError where one does not belong to the kind.
    """

    kind: SpeculationKind
    tokens: int = DEFAULT_TOKENS
    ngram: int | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        _within("speculation.tokens", self.tokens, 1, 64)
        drafted = self.kind is SpeculationKind.DRAFT
        if drafted and not self.checkpoint:
            raise ValueError(
                "speculation.checkpoint is missing; kind draft needs a small checkpoint's name"
            )
        if not drafted and self.checkpoint is not None:
            raise ValueError(
                f"speculation.checkpoint is {self.checkpoint!r}, which only kind draft takes; "
                "leave it out or set kind to draft"
            )
        if self.ngram is not None:
            if drafted:
                raise ValueError(
                    f"speculation.ngram is {self.ngram}, which only kind prompt_lookup takes; "
                    "leave it out"
                )
            _within("speculation.ngram", self.ngram, 1, 16)

    @property
    def match_tokens(self) -> int:
        """How many of the last tokens prompt lookup looks for."""
        return DEFAULT_NGRAM if self.ngram is None else self.ngram


def prompt_lookup(*, tokens: int = DEFAULT_TOKENS, ngram: int = DEFAULT_NGRAM) -> Speculation:
    """Speculation without a model."""
    return Speculation(kind=SpeculationKind.PROMPT_LOOKUP, tokens=tokens, ngram=ngram)


def draft_model(checkpoint: str, *, tokens: int = DEFAULT_TOKENS) -> Speculation:
    """Speculation with a small checkpoint."""
    return Speculation(kind=SpeculationKind.DRAFT, tokens=tokens, checkpoint=checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What a user may set of a replica's engine; the defaults are what `meted up` runs.

    engine: openvino, llamacpp, or a factory as module:Name; None: the engine of the task.
    threads: None for as many as the plan gives it devices. chunk_tokens: most tokens of a step.
    context_tokens: most tokens of prompt and answer together; None for the checkpoint's own.
    kept_answers: of requests without chance, so many answers are kept and given again; 0 for none.
    """

    engine: str | None = None
    threads: int | None = None
    chunk_tokens: int = 256
    cache: CachePrecision = CachePrecision.AUTO
    cache_gib: int = 1
    prefix_cache: bool = True
    speculation: Speculation | None = None
    context_tokens: int | None = None
    kept_answers: int = 0

    def __post_init__(self) -> None:
        _within("chunk_tokens", self.chunk_tokens, 1, 1 << 20)
        _within("cache_gib", self.cache_gib, 1, 1 << 14)
        _within("kept_answers", self.kept_answers, 0, 1 << 20)
        if self.threads is not None:
            _within("threads", self.threads, 1, 1024)
        if self.context_tokens is not None:
            _within("context_tokens", self.context_tokens, 2, 1 << 30)

    @property
    def brings_its_weights(self) -> bool:
        """Whether the engine is a factory, which may need no checkpoint of ours."""
        return self.engine is not None and ":" in self.engine


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, expected {least} to {most}")
