"""Engine settings from outside, and what of them this house's checkpoints cannot be run with."""

from typing import cast

import msgspec

from meted.domain.deployment import Task
from meted.domain.engine_choice import LLAMACPP, OPENVINO, check_settings, engine_for
from meted.domain.engine_settings import EngineSettings
from meted.live.checkpoints import Checkpoint, CheckpointError, CheckpointRegistry
from meted.live.checkpoints.checkpoint import MODEL
from meted.live.config_file import ConfigError, check_keys
from meted.live.engines.gguf_weights import gguf_of


def settings_from_mapping(content: object, *, at: str = "settings") -> EngineSettings:
    """The settings in a decoded file or body. Raises ConfigError for unknown keys and values."""
    if not isinstance(content, dict):
        raise ConfigError(f"{at} is {content!r}, expected keys with values")
    check_keys(cast(object, content), EngineSettings, at)
    try:
        return msgspec.convert(content, EngineSettings)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("`$.", f"`{at}.").replace("`$`", at)) from error


def check_served_settings(
    settings: EngineSettings, *, checkpoint: str, registry: CheckpointRegistry, cores: int
) -> None:
    """Raises ValueError, naming the key, if the checkpoint cannot be run so on this many cores.

    Precondition: the checkpoint, and the draft if there is one, are in the registry.
    """
    if settings.threads is not None and settings.threads > cores:
        raise ValueError(f"threads is {settings.threads}, but the pool has {cores} cores")
    found = registry.get(checkpoint)
    check_settings(settings, task=found.task)
    context = settings.context_tokens
    if context is not None and context > found.context_tokens:
        raise ValueError(
            f"context_tokens is {context}, but the checkpoint {checkpoint!r} was made for "
            f"{found.context_tokens}; lower it"
        )
    draft = draft_of(settings)
    if draft is not None and registry.get(draft).task is not Task.GENERATE:
        raise ValueError(f"speculation.checkpoint is {draft!r}, which does not generate text")
    for one in (checkpoint, draft):
        if one is not None:
            _check_weights(registry.get(one), engine_for(settings, found.task))


def _check_weights(checkpoint: Checkpoint, engine: str) -> None:
    """Whether the engine can read them: each reads a form of its own."""
    if engine == LLAMACPP:
        try:
            gguf_of(checkpoint)
        except CheckpointError as error:
            raise ValueError(str(error)) from error
    elif engine == OPENVINO and not (checkpoint.folder / MODEL).exists():
        raise ValueError(
            f"the engine openvino reads OpenVINO IR, and {checkpoint.name!r} has none; set engine "
            "to llamacpp"
        )


def draft_of(settings: EngineSettings) -> str | None:
    """The checkpoint that drafts, if one does."""
    return None if settings.speculation is None else settings.speculation.checkpoint
