"""How an encoder's token vectors become one vector: `embedding.json` beside its weights."""

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from meted.live.checkpoints.checkpoint import CheckpointError

SETTINGS = "embedding.json"
T = TypeVar("T")


class Pooling(StrEnum):
    """Which token vectors count."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"


class EmbeddingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pooling over the tokens, then division by the Euclidean length if `normalise`."""

    pooling: Pooling = Pooling.MEAN
    normalise: bool = True


def write_settings(folder: Path, settings: EmbeddingSettings) -> None:
    """Keep the settings in `folder`."""
    (folder / SETTINGS).write_bytes(msgspec.json.encode(settings) + b"\n")


def read_settings(folder: Path) -> EmbeddingSettings:
    """The settings of the encoder in `folder`; CheckpointError if they cannot be read."""
    path = folder / SETTINGS
    try:
        return msgspec.json.decode(path.read_bytes(), type=EmbeddingSettings)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; remove {folder} and import the checkpoint again"
        ) from error


def settings_of_sentence_transformer(folder: Path) -> EmbeddingSettings:
    """What a sentence-transformers folder says; mean and normalised where it says nothing.

    Raises CheckpointError for a pooling other than mean, first or last token.
    """
    modules = _read_json(folder / "modules.json", type=list[_Module], default=[])
    normalise = not modules or any(one.type.endswith(".Normalize") for one in modules)
    poolings = [one.path for one in modules if one.type.endswith(".Pooling")]
    if not poolings:
        return EmbeddingSettings(normalise=normalise)
    found = _read_json(folder / poolings[0] / "config.json", type=_PoolingConfig)
    modes = {
        Pooling.MEAN: found.pooling_mode_mean_tokens,
        Pooling.CLS: found.pooling_mode_cls_token,
        Pooling.LAST: found.pooling_mode_lasttoken,
    }
    chosen = [pooling for pooling, on in modes.items() if on]
    if len(chosen) != 1:
        raise CheckpointError(
            f"{folder / poolings[0]} asks for {chosen or 'another pooling'}, expected exactly one "
            f"of {', '.join(Pooling)}; take another encoder"
        )
    return EmbeddingSettings(pooling=chosen[0], normalise=normalise)


class _Module(msgspec.Struct, frozen=True):
    type: str
    path: str = ""


class _PoolingConfig(msgspec.Struct, frozen=True):
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_lasttoken: bool = False


def _read_json(path: Path, *, type: type[T], default: T | None = None) -> T:
    if default is not None and not path.exists():
        return default
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; fetch it again") from error
