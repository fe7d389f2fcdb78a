from pathlib import Path

import numpy as np
import pytest

from meted.live.training.data import Encoder
from meted.live.variants.text import (
    CHOICE_TOKENS,
    CHOICES,
    CONTEXT_TOKENS,
    Amounts,
    read_judging_text,
)

AMOUNTS = Amounts(blocks=24, block_tokens=64, questions=30, training_tokens=2000, seed=3)
ENCODER = Encoder(
    encode=lambda text: [int(word) for word in text.split()], render=lambda turns: "", eos=0
)
"""Each document is written in numbers of its own, so that a token says where it comes from."""


def write(folder: Path, *, documents: int, words: int) -> Path:
    folder.mkdir()
    for number in range(documents):
        start = 1 + number * words
        text = " ".join(map(str, range(start, start + words)))
        (folder / f"{number:03}.txt").write_text(text)
    return folder


def test_no_document_judges_and_trains(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=60, words=200)
    text = read_judging_text(folder, ENCODER, AMOUNTS)
    judging = {(int(token) - 1) // 200 for one in text.blocks for token in one.ids if token}
    training = {(int(token) - 1) // 200 for token in text.training.flat if token}
    assert len(judging) == 24 and len(training) >= 9
    assert not judging & training
    assert len(text.blocks) == 24 and text.training.shape[1] == 64


def test_the_right_passage_follows_the_context_and_the_others_do_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=60, words=200)
    text = read_judging_text(folder, ENCODER, AMOUNTS)
    assert len(text.questions) == 30
    for question in text.questions:
        assert question.rows.shape == (CHOICES, CONTEXT_TOKENS + CHOICE_TOKENS)
        for row, tokens in enumerate(question.rows):
            follows = tokens[CONTEXT_TOKENS] == tokens[CONTEXT_TOKENS - 1] + 1
            assert follows == (row == question.right) or tokens[CONTEXT_TOKENS] == 0
    assert len({one.right for one in text.questions}) == CHOICES


def test_equal_seeds_give_equal_texts_and_others_do_not(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=60, words=200)
    first, again = (read_judging_text(folder, ENCODER, AMOUNTS) for _ in range(2))
    assert all(
        np.array_equal(a.ids, b.ids) for a, b in zip(first.blocks, again.blocks, strict=True)
    )
    assert np.array_equal(first.training, again.training)
    other = read_judging_text(folder, ENCODER, Amounts(blocks=24, block_tokens=64, seed=4))
    assert first.blocks[0].document != other.blocks[0].document


def test_one_long_document_is_cut_into_sections_that_stand_for_documents(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=1, words=12_800)
    text = read_judging_text(folder, ENCODER, AMOUNTS)
    assert len({one.document for one in text.blocks}) == 24
    judged = {(int(token) - 1) // 128 for one in text.blocks for token in one.ids if token}
    training = {(int(token) - 1) // 128 for token in text.training.flat if token}
    assert training and not judged & training


def test_few_documents_give_a_second_block_each(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=62, words=200)
    many = Amounts(blocks=50, block_tokens=64, training_tokens=100_000)
    text = read_judging_text(folder, ENCODER, many)
    documents = [one.document for one in text.blocks]
    assert len(set(documents[:31])) == 31, "a block of each document comes first"
    assert len(documents) == 50


def test_too_little_text_is_refused_with_what_there_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", documents=3, words=30)
    with pytest.raises(ValueError, match="0 documents to judge on"):
        read_judging_text(folder, ENCODER, AMOUNTS)
