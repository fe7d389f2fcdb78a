"""Prompts are as long as recorded, and share as much as was found in the cache."""

import pytest

from meted.domain.units import Micros
from meted.live.tuning.recorded import with_prompts
from meted.predict.batching import Arrival

TEXT = list(range(1_000))


def words(ids: object) -> str:
    return " ".join(str(one) for one in ids)  # type: ignore[attr-defined]


def arrivals(*lengths: tuple[int, int, int]) -> list[Arrival]:
    return [
        Arrival(Micros(place * 10), prompt, output, cached)
        for place, (prompt, output, cached) in enumerate(lengths)
    ]


def test_a_prompt_has_the_recorded_length() -> None:
    made = with_prompts(arrivals((30, 5, 0), (70, 6, 0)), TEXT, words)
    assert [len(one.prompt.split()) for one in made] == [30, 70]
    assert [one.output_tokens for one in made] == [5, 6]
    assert [one.at for one in made] == [0, 10]


def test_what_was_cached_is_a_prefix_that_all_share() -> None:
    first, second = with_prompts(arrivals((50, 1, 40), (60, 1, 30)), TEXT, words)
    shared = [str(one) for one in range(30)]
    assert first.prompt.split()[:30] == shared
    assert second.prompt.split()[:30] == shared
    assert first.prompt.split()[40:] != second.prompt.split()[30:40]


def test_prompts_are_drawn_by_the_seed() -> None:
    asked = arrivals((50, 1, 0), (50, 1, 0))
    assert with_prompts(asked, TEXT, words, seed=1) == with_prompts(asked, TEXT, words, seed=1)
    assert with_prompts(asked, TEXT, words, seed=1) != with_prompts(asked, TEXT, words, seed=2)


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="the text has 50 tokens and the longest prompt 50"):
        with_prompts(arrivals((50, 1, 0)), TEXT[:50], words)
