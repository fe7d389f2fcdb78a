"""From files to packed sequences, of which a held-out part is never trained on."""

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from meted.live.training.html_text import html_text

SUFFIXES = (".txt", ".md", ".rst", ".html", ".htm", ".jsonl")
HELD_OUT_TOKENS_MAX = 8192
"""More would make each evaluation dearer than it is telling."""
HELD_OUT_SEQUENCES_MIN = 8

WINDOW_BYTES = 2000
"""Text is tokenised in parts of this size: a part never has more tokens than bytes."""

Ids = NDArray[np.int32]


class ChatTurn(msgspec.Struct, frozen=True):
    """One message of a chat in a .jsonl file."""

    role: str
    content: str


class JsonLine(msgspec.Struct, frozen=True):
    """One line of a .jsonl file: a text or a chat; other keys are ignored."""

    text: str | None = None
    messages: tuple[ChatTurn, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text that belongs together; exactly one of text and chat is set."""

    source: str
    text: str | None = None
    chat: tuple[ChatTurn, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What training needs of a checkpoint's tokenizer. eos separates documents."""

    encode: Callable[[str], Sequence[int]]
    render: Callable[[Sequence[ChatTurn]], str]
    eos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Packed token ids, one sequence in each row."""

    train: Ids
    held_out: Ids


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file, or of all files of a known kind in a folder, in the order of paths.

    Raises ValueError, naming the file and where in it, for what is missing or unreadable.
    """
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file() and _suffix(one) in SUFFIXES)
        if not files:
            raise ValueError(
                f"folder {path} holds no training text; expected files ending in "
                f"{', '.join(SUFFIXES)}, or these with .gz"
            )
    elif path.is_file():
        files = [path]
        if _suffix(path) not in SUFFIXES:
            raise ValueError(
                f"{path} ends in {path.suffix!r}, which is no kind of training text; expected one "
                f"of {', '.join(SUFFIXES)}, or these with .gz"
            )
    else:
        raise ValueError(f"training data {path} does not exist; give a file or a folder")
    for file in files:
        yield from _documents_in(file, _read(file))


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it or leave it out"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read training data {path}: {error}") from None


def _documents_in(path: Path, content: str) -> Iterator[Document]:
    match _suffix(path):
        case ".jsonl":
            for number, line in enumerate(content.splitlines(), start=1):
                if line.strip():
                    yield _document_of_line(f"{path}:{number}", line)
        case ".html" | ".htm":
            yield Document(source=str(path), text=html_text(content))
        case _:
            yield Document(source=str(path), text=content)


def _document_of_line(source: str, line: str) -> Document:
    try:
        parsed = msgspec.json.decode(line, type=JsonLine)
    except msgspec.DecodeError as error:
        raise ValueError(f"{source} is no training example: {error}") from None
    if (parsed.text is None) == (parsed.messages is None):
        raise ValueError(
            f"{source} is no training example; expected an object with either "
            '"text": "..." or "messages": [{"role": ..., "content": ...}, ...]'
        )
    return Document(source=source, text=parsed.text, chat=parsed.messages)


def encode_documents(documents: Iterable[Document], encoder: Encoder) -> list[Ids]:
    """Token ids of each document that is not blank; an exact repetition is left out, since a copy
    on the other side would make the held-out loss lie."""
    encoded: list[Ids] = []
    seen: set[bytes] = set()
    for document in documents:
        if document.chat is not None:
            text, end = encoder.render(document.chat), []
        else:
            text, end = document.text or "", [encoder.eos]
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        if text.strip() and digest not in seen:
            seen.add(digest)
            ids = [one for window in windows(text) for one in encoder.encode(window)]
            encoded.append(np.asarray([*ids, *end], dtype=np.int32))
    return encoded


def windows(text: str) -> Iterator[str]:
    """The text in parts of at most WINDOW_BYTES, cut before white space that follows a word, where
    byte-level tokenizers (GPT-2, Llama 3, Qwen, SmolLM) never join: the tokens stay the same.

    OpenVINO's tokenizers cut longer texts off at the context length, without a word.
    """
    part, size = list[str](), 0
    for word in re.split(r"(?<=\S)(?=\s)", text):
        for start in range(0, len(word), WINDOW_BYTES // 4):
            piece = word[start : start + WINDOW_BYTES // 4]
            length = len(piece.encode("utf-8", "surrogatepass"))
            if size + length > WINDOW_BYTES:
                yield "".join(part)
                part, size = [], 0
            part.append(piece)
            size += length
    yield "".join(part)


def pack(documents: Sequence[Ids], *, sequence_tokens: int, held_out: float, seed: int) -> Dataset:
    """Split by pieces of documents, chosen by the seed, and cut each side into whole sequences.

    A document of up to four sequences stays on one side; a longer one is cut into pieces of that
    length. The held-out part has at most HELD_OUT_TOKENS_MAX tokens, or
    HELD_OUT_SEQUENCES_MIN sequences if these are more.
    Raises ValueError, with the count, if one side would have no sequence.
    """
    total = sum(len(document) for document in documents)
    most = max(HELD_OUT_SEQUENCES_MIN, HELD_OUT_TOKENS_MAX // sequence_tokens)
    target = min(max(sequence_tokens, round(total * held_out)), most * sequence_tokens)
    # Small pieces sample a small corpus better.
    length = max(sequence_tokens, min(4 * sequence_tokens, target // 8))
    pieces = [
        document[start : start + length]
        for document in documents
        for start in range(0, len(document), length)
    ]
    chosen: set[int] = set()
    taken = 0
    for index in np.random.default_rng(seed).permutation(len(pieces)):
        if taken >= target:
            break
        chosen.add(int(index))
        taken += len(pieces[int(index)])
    train = _rows([one for i, one in enumerate(pieces) if i not in chosen], sequence_tokens)
    kept = _rows([one for i, one in enumerate(pieces) if i in chosen], sequence_tokens)
    if not len(train) or not len(kept):
        raise ValueError(
            f"the training data has {total} tokens in {len(documents)} documents, but one training "
            f"and one held-out sequence of {sequence_tokens} tokens are needed; add text "
            f"(about {4 * sequence_tokens} tokens at least) or lower sequence_tokens"
        )
    return Dataset(train=train, held_out=kept[:most])


def _rows(pieces: Sequence[Ids], sequence_tokens: int) -> Ids:
    stream = np.concatenate([np.empty(0, np.int32), *pieces])
    rows = len(stream) // sequence_tokens
    return stream[: rows * sequence_tokens].reshape(rows, sequence_tokens)


def step_rows(*, step: int, rows_per_step: int, rows: int, seed: int) -> NDArray[np.int64]:
    """Which rows the step after `step` steps trains on: each epoch goes through all rows in an
    order of its own, which depends on nothing but the seed and the epoch."""
    positions = range(step * rows_per_step, (step + 1) * rows_per_step)
    return np.asarray([_epoch_order(rows, seed, one // rows)[one % rows] for one in positions])


@lru_cache(maxsize=2)
def _epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(rows)


def save_dataset(dataset: Dataset, file: Any) -> None:
    """Write the rows, so that a resumed job sees the same data even if its files have changed."""
    np.savez(file, train=dataset.train, held_out=dataset.held_out)


def load_dataset(path: Path) -> Dataset:
    """What `save_dataset` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Dataset(train=arrays["train"], held_out=arrays["held_out"])
