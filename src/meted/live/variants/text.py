"""A user's text, split once: documents to judge variants on, and the rest to calibrate and repair.

No document is on both sides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meted.live.training.data import Encoder, Ids, encode_documents, read_documents
from meted.optimise.gate import LEAST_DOCUMENTS

LEAST_WHOLE = 3 * LEAST_DOCUMENTS
"""Fewer documents than this are cut into sections, which then stand for documents."""
SECTION_BLOCKS = 2
BLOCKS_PER_DOCUMENT = 2
LEAST_TOKENS = 48
"""Shorter documents say too little."""
CONTEXT_TOKENS = 48
CHOICE_TOKENS = 16
CHOICES = 4
LEAST_QUESTION_TOKENS = CONTEXT_TOKENS + 2 * CHOICE_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Tokens that are scored together; the first is only read."""

    document: str
    ids: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which passage comes next? rows: [CHOICES, context and passage]; right: the row of the true
    one. The others are from elsewhere in the same document, or from another where that is short."""

    rows: Ids
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingText:
    """blocks and questions to judge on; training: [rows, block_tokens] of other documents."""

    source: str
    blocks: tuple[Block, ...]
    questions: tuple[Question, ...]
    training: Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much of a text is used. training_tokens: at most so many to calibrate and repair."""

    blocks: int = 64
    block_tokens: int = 256
    questions: int = 100
    training_tokens: int = 100_000
    seed: int = 0


def read_judging_text(path: Path, encoder: Encoder, amounts: Amounts) -> JudgingText:
    """Split the documents at `path` by the seed. Raises ValueError if they are too few or small."""
    texts = {one.text or str(one.chat): one for one in read_documents(path)}
    found = list(texts.values())
    order = np.random.default_rng(amounts.seed).permutation(len(found))
    encoded: Iterator[tuple[str, Ids]] = (
        (document.source, ids)
        for document in (found[int(index)] for index in order)
        for ids in encode_documents([document], encoder)
    )
    if len(found) < LEAST_WHOLE:
        encoded = _shuffled(_sections(encoded, amounts.block_tokens), amounts.seed)
    return split(str(path), encoded, amounts)


def split(source: str, documents: Iterable[tuple[str, Ids]], amounts: Amounts) -> JudgingText:
    """Every other document is for judging, until there are enough; the rest is training.

    A block of each is taken first, second ones only if these do not suffice.
    """
    judged, training = list[tuple[str, Ids]](), list[Ids]()
    rng = np.random.default_rng([amounts.seed, 1])
    wanted = max(1, amounts.training_tokens)
    for document, ids in documents:
        if len(ids) < LEAST_TOKENS:
            continue
        enough = sum(map(len, training)) >= wanted
        if len(judged) < amounts.blocks and (enough or len(judged) <= len(training)):
            judged.append((document, ids))
        elif not enough:
            training.append(ids[: wanted // 4])
        else:
            break
    stream = np.concatenate([np.empty(0, np.int32), *training])[:wanted]
    rows = len(stream) // amounts.block_tokens
    if len(judged) < LEAST_DOCUMENTS or not rows:
        raise ValueError(
            f"{source} gives {len(judged)} documents to judge on, expected {LEAST_DOCUMENTS}, and "
            f"{rows} blocks of {amounts.block_tokens} tokens to calibrate on, expected 1; add "
            "text, some 50 pages"
        )
    taken = [list(_blocks(*one, amounts.block_tokens, rng)) for one in judged]
    blocks = [blocks[turn] for turn in range(BLOCKS_PER_DOCUMENT) for blocks in taken
              if turn < len(blocks)]  # fmt: skip
    questions = tuple(_questions([ids for _, ids in judged], amounts.questions, rng))
    if not questions:
        raise ValueError(
            f"no document of {source} that is held out has {LEAST_QUESTION_TOKENS} tokens, as a "
            "question needs; add longer documents"
        )
    return JudgingText(
        source=source,
        blocks=tuple(blocks[: amounts.blocks]),
        questions=questions,
        training=stream[: rows * amounts.block_tokens].reshape(rows, amounts.block_tokens),
    )


def _sections(documents: Iterable[tuple[str, Ids]], block_tokens: int) -> list[tuple[str, Ids]]:
    length = SECTION_BLOCKS * block_tokens
    return [
        (f"{document}@{start}", ids[start : start + length])
        for document, ids in documents
        for start in range(0, len(ids), length)
    ]


def _shuffled(sections: list[tuple[str, Ids]], seed: int) -> Iterator[tuple[str, Ids]]:
    order = np.random.default_rng([seed, 2]).permutation(len(sections))
    return (sections[int(index)] for index in order)


def _blocks(
    document: str, ids: Ids, block_tokens: int, rng: np.random.Generator
) -> Iterator[Block]:
    """Up to BLOCKS_PER_DOCUMENT blocks from different places of a document."""
    whole = [ids[start : start + block_tokens] for start in range(0, len(ids), block_tokens)]
    whole = [one for one in whole if len(one) >= LEAST_TOKENS]
    for index in rng.permutation(len(whole))[:BLOCKS_PER_DOCUMENT]:
        yield Block(document=document, ids=whole[int(index)])


def _questions(
    documents: Sequence[Ids], count: int, rng: np.random.Generator
) -> Iterator[Question]:
    """Questions in turn from each document that is long enough."""
    long = [ids for ids in documents if len(ids) >= LEAST_QUESTION_TOKENS]
    for number in range(count if long else 0):
        ids = long[number % len(long)]
        middle = int(rng.integers(CONTEXT_TOKENS, len(ids) - CHOICE_TOKENS + 1))
        context, truth = ids[middle - CONTEXT_TOKENS : middle], ids[middle : middle + CHOICE_TOKENS]
        wrong = [_elsewhere(ids, middle, long, rng) for _ in range(CHOICES - 1)]
        right = int(rng.integers(CHOICES))
        choices = [*wrong[:right], truth, *wrong[right:]]
        rows = np.stack([np.concatenate([context, choice]) for choice in choices])
        yield Question(rows=rows, right=right)


def _elsewhere(ids: Ids, middle: int, others: Sequence[Ids], rng: np.random.Generator) -> Ids:
    """A passage that does not touch the true one and is not the same."""
    truth = ids[middle : middle + CHOICE_TOKENS]
    for attempt in range(20):
        source = ids if attempt < 10 else others[int(rng.integers(len(others)))]
        start = int(rng.integers(0, len(source) - CHOICE_TOKENS + 1))
        apart = source is not ids or abs(start - middle) >= CHOICE_TOKENS
        passage = source[start : start + CHOICE_TOKENS]
        if apart and not np.array_equal(passage, truth):
            return passage
    return rng.permutation(truth)
