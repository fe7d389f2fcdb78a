"""What the registry refuses before anything is loaded, and that it never holds a half."""

import json
import struct
from pathlib import Path

import numpy as np
import psutil
import pytest
from gguf import GGUFWriter

from meted.domain.deployment import Task
from meted.live.checkpoints import CheckpointError, CheckpointRegistry
from meted.live.checkpoints.checkpoint import Description, write_description
from meted.live.checkpoints.embedding import Pooling, settings_of_sentence_transformer
from meted.live.checkpoints.hugging_face_source import count_parameters


@pytest.fixture
def registry(tmp_path: Path) -> CheckpointRegistry:
    return CheckpointRegistry(tmp_path / "checkpoints")


def write_gguf(path: Path, *, architecture: str = "llama", experts: int = 0) -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(64)
    if experts:
        writer.add_expert_count(experts)
    writer.add_tensor("token_embd.weight", np.zeros((64, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(path: Path, shape: list[int], *, missing: int = 0) -> None:
    size = 4 * int(np.prod(shape))
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {}, "weight": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size - missing))


def write_hugging_face(folder: Path, **config: object) -> Path:
    folder.mkdir()
    content = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, **config}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def described(folder: Path, name: str, **more: object) -> None:
    fields = {
        **{"task": Task.GENERATE, "architecture": "llama", "context_tokens": 64, "parameters": 1},
        **{"weight_bytes": 1, "source": "/nowhere", "base": None, "created": 0, "held_out": {}},
        **more,
    }
    (folder / name).mkdir(parents=True)
    write_description(folder / name, Description(**fields))  # type: ignore[arg-type]


def refused(registry: CheckpointRegistry, path: Path, *parts: str) -> None:
    """The import is refused with all these parts in its sentence, and leaves nothing."""
    with pytest.raises(CheckpointError) as caught:
        registry.import_path("new", path)
    for part in (str(path.name), *parts):
        assert part in str(caught.value)
    assert registry.list() == [] and not registry.has("new")


def test_a_missing_file_is_named(registry: CheckpointRegistry, tmp_path: Path):
    refused(registry, tmp_path / "gone.gguf", "does not exist")


def test_what_is_no_gguf_is_told_by_its_first_bytes(registry: CheckpointRegistry, tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    refused(registry, path, "b'PK\\x03\\x04'", "no GGUF file")


@pytest.mark.parametrize("keep", [5, 30, 200, -1, -4000])
def test_a_truncated_gguf_is_refused(registry: CheckpointRegistry, tmp_path: Path, keep: int):
    path = write_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    refused(registry, path, "again")


def test_an_unsupported_architecture_is_named(registry: CheckpointRegistry, tmp_path: Path):
    path = write_gguf(tmp_path / "model.gguf", architecture="mamba")
    refused(registry, path, "'mamba'", "llama, qwen2, qwen3")


def test_a_mixture_of_experts_is_refused_as_gguf(registry: CheckpointRegistry, tmp_path: Path):
    refused(registry, write_gguf(tmp_path / "model.gguf", experts=8), "mixture of 8 experts")


def test_a_gguf_that_loads_nowhere_leaves_nothing(registry: CheckpointRegistry, tmp_path: Path):
    with pytest.raises(CheckpointError, match="cannot be loaded by the engine"):
        registry.import_path("new", write_gguf(tmp_path / "model.gguf"))
    assert registry.list() == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_too_little_memory_is_told_in_numbers(registry: CheckpointRegistry, tmp_path: Path):
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / "openvino_model.xml").write_text("<net/>")
    with (folder / "openvino_model.bin").open("wb") as file:
        file.truncate(psutil.virtual_memory().total * 2)  # Sparse: it takes no disk.
    refused(registry, folder, "GB of memory", "is free")


def test_a_folder_of_no_known_kind_is_refused(registry: CheckpointRegistry, tmp_path: Path):
    folder = tmp_path / "empty"
    folder.mkdir()
    refused(registry, folder, "config.json", "give a GGUF file")


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, [3, 5])
    assert count_parameters(path) == 15
    write_safetensors(path, [3, 5], missing=8)
    with pytest.raises(CheckpointError, match="truncated"):
        count_parameters(path)
    path.write_bytes(b"no")
    with pytest.raises(CheckpointError, match="header"):
        count_parameters(path)


def test_a_hugging_face_folder_without_model_type_is_refused(
    registry: CheckpointRegistry, tmp_path: Path
):
    refused(registry, write_hugging_face(tmp_path / "model"), "model_type")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "x" * 129])
def test_a_name_that_is_no_file_name_is_refused(
    registry: CheckpointRegistry, tmp_path: Path, name: str
):
    with pytest.raises(CheckpointError, match="not usable"):
        registry.import_path(name, write_gguf(tmp_path / "model.gguf"))
    assert not registry.has(name)


def test_a_name_that_is_taken_is_refused(registry: CheckpointRegistry, tmp_path: Path):
    described(tmp_path / "checkpoints", "mine")
    with pytest.raises(CheckpointError, match="exists already"):
        registry.import_path("mine", write_gguf(tmp_path / "model.gguf"))


def test_an_unknown_name_lists_those_that_exist(registry: CheckpointRegistry, tmp_path: Path):
    described(tmp_path / "checkpoints", "mine")
    with pytest.raises(CheckpointError, match="all-minilm-l6-v2, mine, smollm2-135m"):
        registry.get("other")
    with pytest.raises(CheckpointError, match="not built in"):
        registry.ensure_builtin("other")


def test_an_unknown_key_in_a_description_is_an_error(registry: CheckpointRegistry, tmp_path: Path):
    described(tmp_path / "checkpoints", "mine")
    path = tmp_path / "checkpoints" / "mine" / "checkpoint.json"
    path.write_text(path.read_text().replace('"source"', '"sauce"'))
    with pytest.raises(CheckpointError, match="sauce"):
        registry.get("mine")


def test_a_removed_checkpoint_is_gone(registry: CheckpointRegistry, tmp_path: Path):
    described(tmp_path / "checkpoints", "mine")
    registry.remove("mine")
    assert registry.list() == [] and list((tmp_path / "checkpoints").iterdir()) == []
    with pytest.raises(CheckpointError):
        registry.remove("mine")


def test_what_a_killed_import_left_is_neither_listed_nor_kept(
    registry: CheckpointRegistry, tmp_path: Path
):
    left = tmp_path / "checkpoints" / ".making-4194305-abc" / "out"
    described(left.parent, "out")
    assert registry.list() == []
    with pytest.raises(CheckpointError):
        registry.import_path("new", write_gguf(tmp_path / "model.gguf"))
    assert not left.exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "which is gone"),
        ({"task": Task.EMBED}, "only checkpoints that generate"),
    ],
)
def test_what_cannot_be_trained_says_why(
    registry: CheckpointRegistry, tmp_path: Path, more: dict[str, object], told: str
):
    described(tmp_path / "checkpoints", "mine", **more)
    with pytest.raises(CheckpointError, match=told):
        registry.trainable_folder("mine")


def test_pooling_is_read_from_a_sentence_transformers_folder(tmp_path: Path):
    assert settings_of_sentence_transformer(tmp_path).normalise
    modules = [{"type": "models.Transformer", "path": ""}, {"type": "m.Pooling", "path": "p"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "p").mkdir()
    config = tmp_path / "p" / "config.json"
    config.write_text(json.dumps({"pooling_mode_cls_token": True}))
    settings = settings_of_sentence_transformer(tmp_path)
    assert (settings.pooling, settings.normalise) == (Pooling.CLS, False)
    config.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(CheckpointError, match="expected exactly one"):
        settings_of_sentence_transformer(tmp_path)
