"""Every way to write OpenVINO weights gives the same network, as exactly as its bits allow."""

from pathlib import Path

import pytest

from meted.domain.levers import parse_lever
from meted.domain.variant import ExportFloat, PruneHeads, Quantise
from meted.live.checkpoints.checkpoint import MODEL
from meted.live.training.data import Ids
from meted.live.variants.networks import open_network
from meted.live.variants.openvino_weights import export_float, quantise
from meted.live.variants.prune import prune

from .tiny import TEXT, logits, make_network, read

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    make_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def float32(hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("float32")
    export_float(hf, folder)
    return folder


def error(folder: Path, hf: Path, text: Ids = TEXT) -> float:
    """How far the answers are off, in standard deviations of the right ones."""
    true = logits(read(hf))
    return float((open_network(folder, threads=1).logits(text) - true).std() / true.std())


@pytest.mark.parametrize(
    ("name", "most"),
    [
        *(("fp16", 0.03), ("bf16", 0.03), ("int8", 0.06), ("int8-sym", 0.06)),
        *(("int4-g32", 0.6), ("int4-sym-g64", 0.8), ("int4-g32-r0.8", 0.6)),
        *(("int4-g32-awq", 0.6), ("int4-sym-g32-gptq", 0.8)),
    ],
)
def test_the_answers_are_as_right_as_the_bits_allow(
    hf: Path, float32: Path, tmp_path: Path, name: str, most: float
) -> None:
    how = parse_lever(name).steps[0][1]
    if isinstance(how, ExportFloat):
        export_float(hf, tmp_path, type=how.type)
    else:
        assert isinstance(how, Quantise)
        quantise(float32, how, tmp_path, TEXT)
    assert error(tmp_path, hf) < most
    size = (tmp_path / MODEL).with_suffix(".bin").stat().st_size
    whole = (float32 / MODEL).with_suffix(".bin").stat().st_size
    assert size < whole * (0.55 if isinstance(how, ExportFloat) else 0.4)


def test_a_network_with_fewer_heads_is_exported(hf: Path, tmp_path: Path) -> None:
    prune(hf, PruneHeads(groups=1), TEXT, tmp_path / "pruned")
    out = tmp_path / "out"
    out.mkdir()
    export_float(tmp_path / "pruned", out)
    assert error(out, tmp_path / "pruned") < 0.03
