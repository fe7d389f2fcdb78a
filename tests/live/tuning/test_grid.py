"""A grid has each variant's default, and each lever on it."""

import pytest

from meted.domain.engine_choice import LLAMACPP
from meted.domain.engine_settings import SpeculationKind
from meted.live.tuning.grid import BATCHES, CHUNKS, grid


def test_each_lever_is_tried_alone_on_each_variant() -> None:
    found = grid(["base", "small"], threads=2, llamacpp=["base"], drafts=["small"])
    base = [one for one in found if one.checkpoint == "base" and one.settings.engine is None]
    default = base[0]
    assert {one.max_batch for one in base} == {*BATCHES}
    assert {one.settings.chunk_tokens for one in base} == {*CHUNKS}
    assert {one.settings.threads for one in base} == {None, 1}
    assert any(not one.settings.prefix_cache for one in base)
    kinds = {one.settings.speculation.kind for one in base if one.settings.speculation}
    assert kinds == {SpeculationKind.PROMPT_LOOKUP, SpeculationKind.DRAFT}
    assert str(default) == "base"
    assert len({str(one) for one in found}) == len(found)


def test_a_draft_is_not_its_own_target() -> None:
    found = grid(["base", "small"], threads=1, drafts=["small"])
    drafted = [one for one in found if one.settings.speculation is not None]
    assert all(
        one.settings.speculation is None or one.settings.speculation.checkpoint != one.checkpoint
        for one in drafted
    )


def test_the_second_engine_only_where_its_weights_are() -> None:
    found = grid(["base", "small"], threads=2, llamacpp=["base"])
    assert {one.checkpoint for one in found if one.settings.engine == LLAMACPP} == {"base"}


def test_only_the_levers_that_are_asked_for() -> None:
    found = grid(["base"], threads=2, levers=("chunk",), llamacpp=["base"])
    assert len(found) == len(CHUNKS)


def test_an_unknown_lever_is_named() -> None:
    with pytest.raises(ValueError, match="there is no lever 'luck'"):
        grid(["base"], threads=2, levers=("luck",))
