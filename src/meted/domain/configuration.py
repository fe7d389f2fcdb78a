"""One way to serve a model: which variant, on which engine, set how, in which batches."""

from dataclasses import dataclass, fields

from meted.domain.deployment import DEFAULT_MAX_BATCH
from meted.domain.engine_settings import EngineSettings, Speculation, SpeculationKind

_SHORT = {"chunk_tokens": "chunk", "prefix_cache": "prefix", "context_tokens": "context"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """checkpoint: the variant by its name. max_batch: requests of a replica at once."""

    checkpoint: str
    settings: EngineSettings = EngineSettings()
    max_batch: int = DEFAULT_MAX_BATCH

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch is {self.max_batch}, expected 1 or more")

    def __str__(self) -> str:
        """The checkpoint, and what differs from the defaults."""
        default = Configuration(checkpoint=self.checkpoint)
        parts = [self.checkpoint]
        for field in fields(EngineSettings):
            value = getattr(self.settings, field.name)
            if value != getattr(default.settings, field.name):
                parts.append(_told(field.name, value))
        if self.max_batch != default.max_batch:
            parts.append(f"batch {self.max_batch}")
        return ", ".join(parts)


def _told(name: str, value: object) -> str:
    if isinstance(value, Speculation):
        drafted = value.kind is SpeculationKind.DRAFT
        who = f"draft {value.checkpoint}" if drafted else f"lookup {value.match_tokens}"
        return f"{who} x {value.tokens}"
    if name == "engine":
        return str(value)
    if name == "kept_answers":
        return f"{value} kept answers"
    if name == "prefix_cache":
        return "prefix cache" if value else "no prefix cache"
    return f"{_SHORT.get(name, name)} {value}"
