"""Engine settings as the body of a deployment names them."""

from typing import Annotated

import msgspec
from msgspec import Meta

from meted.domain.engine_settings import CachePrecision, EngineSettings, SpeculationKind

Count = Annotated[int, Meta(ge=1, le=1 << 30)]


class SpeculationBody(msgspec.Struct, forbid_unknown_fields=True):
    """Several tokens proposed at once; ngram is for prompt_lookup, checkpoint for draft."""

    kind: SpeculationKind
    tokens: Count = 5
    ngram: Count | None = None
    checkpoint: str | None = None


class SettingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """`EngineSettings` as JSON."""

    engine: str | None = None
    threads: Count | None = None
    chunk_tokens: Count = 256
    cache: CachePrecision = CachePrecision.AUTO
    cache_gib: Count = 1
    prefix_cache: bool = True
    speculation: SpeculationBody | None = None
    context_tokens: Count | None = None
    kept_answers: Annotated[int, Meta(ge=0, le=1 << 20)] = 0

    def settings(self) -> EngineSettings:
        """The domain's value. Raises ValueError, naming the key, for what does not go together."""
        return msgspec.convert(msgspec.to_builtins(self), EngineSettings)
