"""Fuzzing: what the doors and the parsers do with inputs that nobody thought of.

The doors: schemathesis makes requests from /openapi.json, such that fit it and such that do not,
and sends them to the application in this process, over a house in memory. Every answer must be one
that the description knows, in the shape that it says, and never a 5xx that is our own mistake.
The parsers: hypothesis gives raw bytes and JSON that is nearly a request to the readers of bodies;
they give a value or a refusal with status 400 and a short sentence, and nothing else.

    .venv/bin/python benchmarks/fuzz.py [--doors 100] [--parsers 20000] [--seed 1] [--json]
"""

import argparse
import copy
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from meted.gateway.app import create_app
from meted.gateway.bodies import MOST_TOKENS, Wish, read_chat, read_completion, read_embeddings
from meted.gateway.errors import error_body
from meted.gateway.money_bodies import read_budget, read_key, read_price, read_rate
from meted.live.doors import HouseError
from meted.testing.fake_doors import ADMIN_KEY, FakeDoors

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
LONGEST_SENTENCE = 2_000

CHAT = {
    "model": "words",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one two"}]},
    ],
    "max_tokens": 5,
    "temperature": 0.5,
    "seed": 7,
    "stop": ["a", "b"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": {"type": "text"},
}
COMPLETION = {"model": "words", "prompt": ["one two"], "max_tokens": 5, "n": 1, "top_p": 0.9}
EMBEDDINGS = {"model": "vectors", "input": ["a", "b"], "encoding_format": "base64"}
KEY = {"tenant": "acme", "project": "chat", "name": "ci", "requests_per_minute": 5}
BUDGET = {"tenant": "acme", "period": "day", "limit_usd": "12.50", "alerts": [50, 100]}
OWNED = {"kind": "owned", "purchase_usd": "2000", "lifetime_hours": 35040, "milliwatts": 3}
PRICE = {"device_kind": "gpu", "basis": OWNED | {"usd_per_kwh": "0.3"}, "effective": "1760000000"}
CARD = {"charge": "card", "input_usd_per_million": "2.5", "cached_input_usd_per_million": "0.1"}
RATE = {
    "tenant": "acme",
    "rates": CARD | {"output_usd_per_million": "10", "training_usd_per_device_second": "0.000001"},
}

NOW: Any = 1_760_000_000_000_000
PARSERS: dict[str, tuple[Callable[[bytes], Any], dict[str, Any]]] = {
    "read_chat": (read_chat, CHAT),
    "read_completion": (read_completion, COMPLETION),
    "read_embeddings": (read_embeddings, EMBEDDINGS),
    "read_key": (read_key, KEY),
    "read_budget": (lambda raw: read_budget("b", raw), BUDGET),
    "read_price": (lambda raw: read_price(raw, NOW), PRICE),
    "read_rate": (lambda raw: read_rate(raw, NOW), RATE),
}

NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-0", "-1", "1.5"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775809"),
    *("1" + "0" * 400, "1" + "0" * 5000, '"1"', "true", "null"),
)
TEXTS = (
    *("", " ", "\0", "\r\n", "\u202e", "\u200b", "\ufeff", "e\u0301", "🚀", "\uffff", "../..", "/"),
    *("x" * 3000, "1e400", "NaN", "-1", "0.0000000001", "2026-13-45T99:99:99Z", "9" * 400),
)


@dataclass(slots=True)
class Found:
    """What one part of the fuzzing did. faults: each distinct one, and an input that shows it."""

    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, example: str) -> None:
        self.faults.setdefault(what, example[:300])


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def fuzz_doors(examples: int, *, start: int = 0) -> Found:
    """`examples` requests that fit the description to every door, and as many that do not."""
    found = Found()
    began = time.perf_counter()
    doors = FakeDoors()
    app = create_app(doors, max_body_bytes=100_000)
    description = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in description.get_all_operations():
        operation = result.ok()
        for mode in (
            schemathesis.GenerationMode.POSITIVE,
            schemathesis.GenerationMode.NEGATIVE,
        ):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                _ask(found, operation, strategy, examples, start)
            except Unsatisfiable:
                # A door without a body or parameters has nothing that could be wrong.
                found.outcomes["nothing to vary"] += 1
    found.seconds = time.perf_counter() - began
    return found


def _ask(found: Found, operation: Any, strategy: Any, examples: int, start: int) -> None:
    @seed(start)
    @_settings(examples)
    @given(case=strategy)
    def ask(case: Any) -> None:
        found.inputs += 1
        response = case.call(headers={"Authorization": f"Bearer {ADMIN_KEY}"})
        found.outcomes[str(response.status_code)] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
            failures = getattr(failure, "exceptions", (failure,))
            for one in failures:
                what = f"{operation.label}: {type(one).__name__} {response.status_code}"
                found.fault(what, f"{one} | {case.as_curl_command()}")

    ask()


def fuzz_parsers(examples: int, *, start: int = 0) -> Found:
    """`examples` inputs to every reader: a third raw bytes, the rest nearly a request."""
    found = Found()
    began = time.perf_counter()
    for name, (read, valid) in PARSERS.items():
        _read(found, name, read, st.binary(max_size=300), max(1, examples // 3), start)
        _read(found, name, read, near_json(valid), max(1, examples - examples // 3), start)
    found.seconds = time.perf_counter() - began
    return found


def _read(
    found: Found,
    name: str,
    read: Callable[[bytes], Any],
    inputs: st.SearchStrategy[bytes],
    examples: int,
    start: int,
) -> None:
    @seed(start)
    @_settings(examples)
    @given(raw=inputs)
    def law(raw: bytes) -> None:
        found.inputs += 1
        try:
            value = read(raw)
        except HouseError as error:
            found.outcomes["refused"] += 1
            said = msgspec.json.decode(error_body(error))["error"]["message"]
            if error.status != 400 or not 0 < len(said) <= LONGEST_SENTENCE:
                found.fault(f"{name}: refused with {error.status}, {len(said)} characters", said)
        except BaseException as error:
            found.fault(f"{name}: {type(error).__name__}", f"{error}: {raw!r}")
        else:
            found.outcomes["taken"] += 1
            if isinstance(value, Wish) and not _bounded(value):
                found.fault(f"{name}: took numbers beyond an engine's", repr(raw))

    law()


def _bounded(wish: Wish) -> bool:
    sampling = wish.sampling
    tokens = (sampling.max_tokens or 1, sampling.min_tokens, sampling.top_k or 0)
    return all(0 <= one <= MOST_TOKENS for one in tokens) and (
        sampling.seed is None or 0 <= sampling.seed < 2**63
    )


def near_json(valid: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A valid body with one to three members wrong, then perhaps a few bytes wrong."""
    values = st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=20),
            st.sampled_from(TEXTS),
            st.sampled_from(NUMBERS).map(_Raw),
        ),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=6,
    )
    paths = sorted(_paths(valid))
    changes = st.lists(
        st.tuples(st.sampled_from(paths), values, st.sampled_from(("set", "drop", "nest"))),
        max_size=3,
    )
    bodies = changes.map(lambda changed: _changed(valid, changed))
    return st.one_of(bodies, st.tuples(bodies, _scars()).map(lambda pair: _scarred(*pair)))


class _Raw(str):
    """JSON text that is put in as it stands."""


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found: list[tuple[Any, ...]] = [(*path, name) for name, _ in items]
    for name, inner in items:
        found += _paths(inner, (*path, name))
    return sorted(found, key=repr)


def _changed(valid: dict[str, Any], changes: list[tuple[Any, Any, str]]) -> bytes:
    body = copy.deepcopy(valid)
    for path, value, how in changes:
        place: Any = body
        try:
            for step in path[:-1]:
                place = place[step]
            if how == "drop":
                del place[path[-1]]
            else:
                nested = json.loads("[" * 40 + "]" * 40)
                place[path[-1]] = nested if how == "nest" else value
        except (LookupError, TypeError):
            continue
    return _encoded(body)


def _encoded(value: Any) -> bytes:
    if isinstance(value, _Raw):
        return str(value).encode()
    if isinstance(value, dict):
        pairs = (_encoded(str(name)) + b":" + _encoded(one) for name, one in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_encoded, value)) + b"]"
    return json.dumps(value).encode()


def _scars() -> st.SearchStrategy[list[tuple[float, str, bytes]]]:
    return st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from(("insert", "cut", "repeat")),
            st.binary(min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=3,
    )


def _scarred(body: bytes, scars: list[tuple[float, str, bytes]]) -> bytes:
    for where, how, what in scars:
        place = int(where * len(body))
        match how:
            case "insert":
                body = body[:place] + what + body[place:]
            case "cut":
                body = body[:place] + body[place + len(what) :]
            case _:
                body = body[:place] + body[max(0, place - 20) :]
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--doors", type=int, default=100, help="requests of each kind to each door")
    parser.add_argument("--parsers", type=int, default=20_000, help="inputs to each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    parts = {
        "parsers": fuzz_parsers(arguments.parsers, start=arguments.seed),
        "doors": fuzz_doors(arguments.doors, start=arguments.seed),
    }
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(parts), indent=2).decode())
    else:
        for name, found in parts.items():
            print(f"{name}: {found.inputs} inputs in {found.seconds:.0f} s")
            said = ", ".join(f"{how} {count}" for how, count in sorted(found.outcomes.items()))
            print(f"  outcomes: {said}")
            print(f"  faults: {len(found.faults)}")
            for what, example in found.faults.items():
                print(f"    {what}\n      {example}")
    if any(found.faults for found in parts.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
