"""llama.cpp's weights: the checkpoint's own GGUF, else the one it came from, else what to do."""

from pathlib import Path

import pytest

from meted.domain.deployment import Task
from meted.live.checkpoints import Checkpoint, CheckpointError
from meted.live.engines.gguf_weights import gguf_of


def checkpoint(folder: Path, source: str) -> Checkpoint:
    return Checkpoint(
        name="mine",
        task=Task.GENERATE,
        folder=folder,
        architecture="llama",
        context_tokens=128,
        parameters=1,
        weight_bytes=1,
        source=source,
        created=0,
    )


def test_its_own_file_comes_before_the_one_it_came_from(tmp_path: Path):
    source = tmp_path / "source.gguf"
    source.touch()
    one = checkpoint(tmp_path / "mine", str(source))
    assert gguf_of(one) == source
    one.folder.mkdir()
    (one.folder / "model.gguf").touch()
    assert gguf_of(one) == one.folder / "model.gguf"


def test_a_built_in_is_the_file_in_its_package(tmp_path: Path):
    found = gguf_of(checkpoint(tmp_path, "builtin:smollm2-135m"))
    assert found.suffix == ".gguf" and found.exists()


@pytest.mark.parametrize("source", ["/models/folder", "trained:base", "builtin:all-minilm-l6-v2"])
def test_what_never_was_gguf_is_refused_with_the_way_out(tmp_path: Path, source: str):
    with pytest.raises(CheckpointError, match="import the model's GGUF file, make a GGUF variant"):
        gguf_of(checkpoint(tmp_path, source))


def test_a_file_that_is_gone_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"gone\.gguf, which 'mine' was imported from"):
        gguf_of(checkpoint(tmp_path, str(tmp_path / "gone.gguf")))
