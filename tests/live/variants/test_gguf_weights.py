"""A written GGUF is the same network again, as an independent reader takes it."""

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader, GGUFWriter

from meted.domain.variant import GgufType, PruneHeads
from meted.live.checkpoints import CheckpointError
from meted.live.checkpoints.checkpoint import GGUF_MODEL, TOKENIZER_GGUF
from meted.live.variants.gguf_weights import write_gguf
from meted.live.variants.networks import open_network
from meted.live.variants.prune import prune

from .tiny import TEXT, VOCABULARY, logits, make_network, read

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A checkpoint's folder with the keys of the GGUF file that it came from."""
    folder = tmp_path / "base"
    folder.mkdir()
    writer = GGUFWriter(folder / TOKENIZER_GGUF, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(3)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return folder


@pytest.mark.parametrize(
    ("type", "most"),
    [(GgufType.F16, 2e-3), (GgufType.BF16, 2e-2), (GgufType.Q8_0, 0.05), (GgufType.Q4_0, 0.5)],
)
def test_the_answers_come_back_as_exactly_as_the_type_holds_them(
    tmp_path: Path, base: Path, type: GgufType, most: float
) -> None:
    network = make_network()
    network.save_pretrained(tmp_path / "hf")
    out = tmp_path / "out"
    out.mkdir()
    write_gguf(tmp_path / "hf", base, type, out)
    found, true = open_network(out, threads=1).logits(TEXT), logits(network)
    assert float((found - true).std() / true.std()) < most
    types = {one.name: one.tensor_type.name for one in GGUFReader(out / GGUF_MODEL).tensors}
    assert types["blk.2.ffn_down.weight"] == type.name
    assert types["output_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("Q8_0" if type is GgufType.Q4_0 else type.name)


def test_a_pruned_network_says_its_new_shape(tmp_path: Path, base: Path) -> None:
    make_network().save_pretrained(tmp_path / "hf")
    prune(tmp_path / "hf", PruneHeads(groups=1), TEXT, tmp_path / "pruned")
    out = tmp_path / "out"
    out.mkdir()
    write_gguf(tmp_path / "pruned", base, GgufType.F16, out)
    torch.testing.assert_close(
        open_network(out, threads=1).logits(TEXT),
        logits(read(tmp_path / "pruned")),
        rtol=5e-2,
        atol=5e-2,
    )
    assert GGUFReader(out / GGUF_MODEL).fields["llama.attention.key_length"].contents() == 16


def test_without_the_keys_of_a_gguf_file_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="take an OpenVINO lever"):
        write_gguf(tmp_path, tmp_path, GgufType.Q8_0, tmp_path)
