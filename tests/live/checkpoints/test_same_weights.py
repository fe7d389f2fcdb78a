"""A variant that is its parent byte for byte saves nothing, whatever it is called."""

from pathlib import Path

import pytest

from meted.live.checkpoints.checkpoint import same_weights


def folder(place: Path, **files: bytes) -> Path:
    place.mkdir()
    names = {"openvino": "openvino_model.bin", "gguf": "model.gguf"}
    for name, content in files.items():
        (place / names[name]).write_bytes(content)
    return place


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"openvino": b"abc"}, {"openvino": b"abc"}, True),
        ({"openvino": b"abc"}, {"openvino": b"abd"}, False),
        ({"openvino": b"abc"}, {"openvino": b"ab"}, False),
        ({"gguf": b"abc"}, {"gguf": b"abc"}, True),
        ({"openvino": b"abc"}, {"gguf": b"abc"}, False),
    ],
)
def test_the_same_bytes_served_by_the_same_engine_are_the_same_weights(
    tmp_path: Path, one: dict[str, bytes], other: dict[str, bytes], same: bool
) -> None:
    found = same_weights(folder(tmp_path / "one", **one), folder(tmp_path / "other", **other))
    assert found is same
