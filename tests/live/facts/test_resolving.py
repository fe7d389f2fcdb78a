"""What a user calls a model is found: a name, a file, a folder, a checkpoint of the home."""

import json
from pathlib import Path

import pytest
from test_config_json import LLAMA_3_1_8B
from test_gguf_header import HIDDEN, KEYS, PLAIN, write

from meted.domain.deployment import Task
from meted.domain.device_kind import Precision
from meted.live.checkpoints.checkpoint import Description, write_description
from meted.live.facts import FactError, FactsFile, read_facts_file, resolve_model
from meted.live.home import Home, find_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return find_home(tmp_path / "home")


def checkpoint(home: Home, name: str, source: str, *, bits: float = 8.5) -> Path:
    folder = home.checkpoints / name
    folder.mkdir(parents=True)
    write_description(
        folder,
        Description(
            task=Task.GENERATE, architecture="llama", context_tokens=64, parameters=1_000_000,
            weight_bytes=round(bits * 125_000), source=source, base=None, created=0, held_out={},
        ),
    )  # fmt: skip
    return folder


def write_config(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA_3_1_8B))
    return path


def test_a_name_a_config_and_its_folder_lead_to_one_shape(tmp_path: Path) -> None:
    path = write_config(tmp_path / "my-llama")
    named = resolve_model("meta-llama/Llama-3.1-8B-Instruct").architecture
    for text in (str(path), str(path.parent)):
        found = resolve_model(text)
        assert (found.architecture.layers, found.architecture.vocab) == (named.layers, named.vocab)
        assert found.architecture.name == "my-llama"
        assert found.weights is Precision.BF16


def test_a_gguf_and_a_folder_with_no_other_lead_to_its_header(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.gguf", "llama", KEYS, PLAIN)
    found = resolve_model(str(path))
    assert (found.architecture.hidden, found.weights) == (HIDDEN, Precision.FP16)
    assert resolve_model(str(tmp_path)) == found


def test_a_checkpoint_is_found_by_its_name_with_its_weights_as_served(home: Home) -> None:
    checkpoint(home, "night-shift", "builtin:smollm2-135m")
    found = resolve_model("night-shift", home=home)
    assert (found.architecture.name, found.architecture.hidden) == ("night-shift", 576)
    assert (found.weights, found.weight_bytes) == (Precision.INT8, 1_062_500)


def test_a_checkpoints_own_configuration_comes_before_its_source(home: Home) -> None:
    folder = checkpoint(home, "trained", "trained:smollm2-135m", bits=16)
    write_config(folder / "hf")
    found = resolve_model("trained", home=home)
    assert (found.architecture.hidden, found.weights) == (4096, Precision.FP16)
    assert resolve_model(str(folder)) == found


def test_a_checkpoint_whose_source_is_gone_says_so(home: Home) -> None:
    checkpoint(home, "lost", "/nowhere/at/all.gguf")
    with pytest.raises(FactError, match=r"'lost' has no config\.json, and its source /nowhere"):
        resolve_model("lost", home=home)


def test_what_is_nowhere_says_where_it_was_looked_for(home: Home, tmp_path: Path) -> None:
    with pytest.raises(FactError, match=r"near names: .*name a checkpoint of .*home"):
        resolve_model("lama-3.1-8b", home=home)
    with pytest.raises(FactError, match=r"missing\.gguf is no config\.json, no \.gguf file"):
        resolve_model(str(tmp_path / "missing.gguf"))
    empty = tmp_path / "empty.gguf"
    empty.write_bytes(b"GGML")
    with pytest.raises(FactError, match="no GGUF file"):
        resolve_model(str(empty))


def described(tmp_path: Path, text: str) -> FactsFile:
    path = tmp_path / "facts.yaml"
    path.write_text(text)
    return read_facts_file(path)


def test_a_facts_file_describes_models_and_devices_alone_or_like_another(tmp_path: Path) -> None:
    facts = described(
        tmp_path,
        """
models:
  deep: {like: llama-3.1-8b, layers: 40}
  deeper: {like: deep, layers: 48}
  mine:
    {family: mine, layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, ffn: 128,
     gated: true, vocab: 100, tied: true, positions: 64, experts: {count: 4, active: 1, ffn: 8}}
devices:
  slow-h100: {like: h100, watts_busy: 500, link: {bytes_per_second: 64.0e+9, latency_micros: 10}}
  npu:
    {peak_flops: {int8: 40.0e+12}, memory_bytes: 17179869184, bandwidth: 1.2e+11, node_devices: 1,
     link: {bytes_per_second: 1.0e+9, latency_micros: 10}, watts_busy: 30, watts_idle: 2,
     network: {bytes_per_second: 1.0e+8, latency_micros: 50}, source: its data sheet}
""",
    )
    assert resolve_model("deeper", facts=facts).architecture.layers == 48
    assert facts.models["deep"].source.endswith("facts.yaml")
    mine = facts.models["mine"].experts
    assert mine is not None and mine.count == 4
    assert facts.devices["slow-h100"].watts_busy == 500
    assert facts.devices["slow-h100"].bandwidth == 3.35e12
    assert facts.devices["npu"].peak_flops == {Precision.INT8: 40e12}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("things: {}", "has the key 'things', expected models or devices"),
        ("models: {a: {like: llama-3.1-8b, layer: 3}}", "a in .* has the key 'layer'"),
        ("models: {a: {layers: 3}}", "a in .* missing required field `family`"),
        ("models: {a: {like: nothing-like-it}}", "like of a in .*'nothing-like-it' is not known"),
        ("models: {a: {like: llama-3.1-8b, layers: many}}", r"Expected `int`.*layers"),
        ("models: {a: {like: llama-3.1-8b, layers: 0}}", "layers of a is 0, expected 1 or more"),
        ("devices: {d: {like: t4, link: {speed: 3}}}", "link of d in .* has the key 'speed'"),
        ("devices: {d: {like: t4, peak_flops: {fp4: 3.0}}}", "fp4"),
        ("- a list", "holds list, expected keys and values"),
        ("models: [", "cannot be read"),
    ],
)
def test_a_wrong_or_missing_fact_of_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FactError, match=says):
        described(tmp_path, text)
