"""Engine settings as the command line says them: files and key=value."""

from pathlib import Path
from typing import Any, cast

import yaml

from meted.live.config import ConfigError


def settings_from_words(words: tuple[str, ...]) -> dict[str, Any]:
    """What --settings said: files and key=value, the later one wins; `speculation.kind=...` sets
    a key inside. Values are YAML. Raises ConfigError."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            _put(found, key.strip().split("."), _yaml(value, f"--settings {word}"))
            continue
        try:
            text = Path(word).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"--settings {word} cannot be read: {error}; give a YAML file or key=value"
            ) from error
        content = _yaml(text, word)
        if not isinstance(content, dict):
            raise ConfigError(f"{word} holds {content!r}, expected keys with values")
        found.update(cast(dict[str, Any], content))
    return found


def _put(into: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = into.get(key)
        into[key] = inner if isinstance(inner, dict) else {}
        into = into[key]
    into[path[-1]] = value


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}") from error
