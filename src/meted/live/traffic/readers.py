"""Recorded requests from a file: Azure's and Mooncake's traces, or plain CSV and JSON lines."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.dollars import shortened
from meted.live.traffic.errors import TrafficError
from meted.predict.batching import Arrival

PREFIX_BLOCK = 512
"""Prompt tokens of one block in Mooncake's traces (Qin et al. 2025); equal ids, equal prefixes."""
MICROS_PER_MS = 1_000

FORMATS = """\
a CSV with TIMESTAMP, ContextTokens and GeneratedTokens (Azure's), a CSV or JSON lines with seconds,
prompt_tokens, output_tokens and perhaps cached_tokens, or JSON lines with timestamp (ms),
input_length, output_length and hash_ids (Mooncake's)"""

Row = Mapping[str, Any]


def read_trace(path: Path) -> list[Arrival]:
    """The requests of a trace, in order of time, the first at moment 0.

    Raises TrafficError naming the line, its value and what was expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            arrivals = list(_arrivals(path, lines))
    except OSError as error:
        raise TrafficError(f"cannot read {path}: {error.strerror}; check --traffic") from error
    except UnicodeDecodeError as error:
        raise TrafficError(f"{path} is no text: {error}; expected {FORMATS}") from error
    if len(arrivals) < 2:
        raise TrafficError(f"{path} has {len(arrivals)} requests, expected two or more")
    arrivals.sort(key=lambda one: one.at)
    first = arrivals[0].at
    return [
        Arrival(Micros(one.at - first), one.prompt_tokens, one.output_tokens, one.cached_tokens)
        for one in arrivals
    ]


def _arrivals(path: Path, lines: Iterator[str]) -> Iterator[Arrival]:
    head = next(lines, "").strip()
    if head.startswith("{"):
        yield from _from_json_lines(path, head, lines)
        return
    names = next(csv.reader([head]), list[str]())
    reader = csv.DictReader(lines, fieldnames=names)
    made = _maker(path, names)
    for number, row in enumerate(reader, start=2):
        yield made(_Place(path, number), row)


def _from_json_lines(path: Path, head: str, rest: Iterator[str]) -> Iterator[Arrival]:
    made: Callable[[_Place, Row], Arrival] | None = None
    for number, line in enumerate(_after(head, rest), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise TrafficError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise TrafficError(f"{path}, line {number}: {shortened(line)} is no JSON object")
        found = cast(dict[str, Any], row)
        made = made or _maker(path, list(found))
        yield made(_Place(path, number), found)


def _after(head: str, rest: Iterator[str]) -> Iterator[str]:
    yield head
    yield from rest


class _Place:
    """Where in a file a value stands, for its error."""

    __slots__ = ("_line", "_path")

    def __init__(self, path: Path, line: int) -> None:
        self._path = path
        self._line = line

    def wrong(self, column: str, value: object, expected: str) -> TrafficError:
        return TrafficError(
            f"{self._path}, line {self._line}: {column} is {shortened(value)}, expected {expected}"
        )

    def tokens(self, row: Row, column: str, least: int) -> int:
        value = row.get(column)
        try:
            tokens = int(cast(Any, value))
        except (TypeError, ValueError):
            raise self.wrong(column, value, "a whole number of tokens") from None
        if tokens < least:
            raise self.wrong(column, value, f"{least} or more tokens")
        return tokens

    def number(self, row: Row, column: str) -> float:
        value = row.get(column)
        try:
            return float(cast(Any, value))
        except (TypeError, ValueError):
            raise self.wrong(column, value, "a number") from None


def _maker(path: Path, names: list[str]) -> Callable[[_Place, Row], Arrival]:
    """What makes an arrival of a row, by the columns that the file has."""
    columns = set(names)
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= columns:
        return _azure
    if {"timestamp", "input_length", "output_length"} <= columns:
        return _Mooncake()
    if {"seconds", "prompt_tokens", "output_tokens"} <= columns:
        return _plain
    raise TrafficError(
        f"{path} has the columns {', '.join(names) or 'of an empty file'}; expected {FORMATS}"
    )


def _azure(place: _Place, row: Row) -> Arrival:
    text = str(row["TIMESTAMP"])
    try:
        # Seven decimals of a second, one more than Python reads.
        moment = datetime.fromisoformat(text[:26])
    except ValueError:
        raise place.wrong("TIMESTAMP", text, "a moment such as 2023-11-16 18:17:03.98") from None
    at = (moment - _EPOCH).total_seconds() * MICROS_PER_SECOND
    # A few recorded requests generated nothing; the engine made a token all the same.
    return Arrival(
        Micros(round(at)),
        place.tokens(row, "ContextTokens", 1),
        max(1, place.tokens(row, "GeneratedTokens", 0)),
    )


_EPOCH = datetime(1970, 1, 1)


def _plain(place: _Place, row: Row) -> Arrival:
    prompt = place.tokens(row, "prompt_tokens", 1)
    cached = place.tokens(row, "cached_tokens", 0) if row.get("cached_tokens") else 0
    if cached > prompt:
        raise place.wrong("cached_tokens", cached, f"at most the prompt's {prompt}")
    seconds = place.number(row, "seconds")
    return Arrival(
        Micros(round(seconds * MICROS_PER_SECOND)),
        prompt,
        place.tokens(row, "output_tokens", 1),
        cached,
    )


class _Mooncake:
    """Prompt blocks that came before count as found in an endless prefix cache, which is more than
    a real one holds."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def __call__(self, place: _Place, row: Row) -> Arrival:
        prompt = place.tokens(row, "input_length", 1)
        blocks = cast(list[int], row.get("hash_ids") or [])
        shared = next(
            (count for count, block in enumerate(blocks) if block not in self._known), len(blocks)
        )
        self._known.update(blocks)
        return Arrival(
            Micros(round(place.number(row, "timestamp") * MICROS_PER_MS)),
            prompt,
            max(1, place.tokens(row, "output_length", 0)),
            min(shared * PREFIX_BLOCK, prompt - 1),
        )
