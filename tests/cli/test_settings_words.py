"""--settings: files and single keys, in the order in which they are said."""

from pathlib import Path

import pytest

from meted.cli.settings_words import settings_from_words
from meted.domain.engine_settings import EngineSettings, Speculation, SpeculationKind
from meted.live.config import ConfigError
from meted.live.engine_settings import settings_from_mapping


def test_later_words_win_and_dots_reach_inside(tmp_path: Path):
    file = tmp_path / "quick.yaml"
    file.write_text("chunk_tokens: 64\nspeculation: {kind: prompt_lookup, tokens: 2}\n")
    words = (str(file), "chunk_tokens=512", "speculation.tokens=7", "prefix_cache=false")
    settings = settings_from_mapping(settings_from_words(words))
    lookup = Speculation(kind=SpeculationKind.PROMPT_LOOKUP, tokens=7)
    assert settings == EngineSettings(chunk_tokens=512, prefix_cache=False, speculation=lookup)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("chunk=64", "unknown key --settings.chunk with value 64"),
        ("chunk_tokens=many", "chunk_tokens"),
        ("chunk_tokens=0", "chunk_tokens is 0"),
        ("cache=int2", "cache"),
        ("speculation.kind=magic", "speculation.kind"),
        ("speculation.tokens=3", "kind"),
        ("engine={", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(word: str, told: str):
    with pytest.raises(ConfigError, match=told):
        settings_from_mapping(settings_from_words((word,)), at="--settings")


@pytest.mark.parametrize(("text", "told"), [("- a\n", "expected keys"), (None, "cannot be read")])
def test_a_file_must_be_one_of_keys(tmp_path: Path, text: str | None, told: str):
    file = tmp_path / "settings.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        settings_from_words((str(file),))
