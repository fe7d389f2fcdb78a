"""A small part of benchmarks/fuzz.py: no input makes a door or a parser fail."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("meted_fuzz", FUZZ)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_no_body_makes_a_parser_fail(fuzz: ModuleType) -> None:
    found = fuzz.fuzz_parsers(60)
    assert found.faults == {}
    assert found.inputs >= 60 * len(fuzz.PARSERS) // 2
    assert found.outcomes["refused"] > 0
    assert found.outcomes["taken"] > 0


def test_no_request_makes_a_door_fail(fuzz: ModuleType) -> None:
    found = fuzz.fuzz_doors(2)
    assert found.faults == {}
    assert found.inputs >= 100
    assert found.outcomes["200"] > 0
    assert found.outcomes["400"] > 0


def test_a_fault_would_be_found(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(raw: bytes) -> None:
        raise OverflowError("too large")

    monkeypatch.setitem(fuzz.PARSERS, "read_chat", (fails, fuzz.CHAT))
    assert "read_chat: OverflowError" in fuzz.fuzz_parsers(3).faults
