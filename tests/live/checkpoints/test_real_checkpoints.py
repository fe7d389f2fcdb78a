"""Real weights through the registry: imported, tried, trained from, and measured again."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from meted.domain.deployment import Task
from meted.live.checkpoints import CheckpointRegistry, held_out_loss, load_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

TEXT = (
    "The cost of a request is what it used of the machine, and the price is what its tenant "
    "pays. These are two different words, and a house that mixes them cannot close its books. "
) * 6


def importing(folder: Path, name: str, *source: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "meted.live.checkpoints", "import", "--name", name),
            *("--folder", str(folder), "--threads", "2", *source),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def make_llama(folder: Path, *, vocabulary: int) -> Any:
    """A tiny network with random weights, as a Hugging Face folder without tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    network = LlamaForCausalLM(config)
    # As initialised its answers are nearly uniform: a loss would be right by accident.
    network.model.embed_tokens.weight.data.mul_(20.0)
    network.save_pretrained(folder)
    return network


def make_tokenizer(folder: Path) -> int:
    """A small tokenizer with a chat template, learnt from TEXT; returns its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = (
        "{% for one in messages %}[{{ one['role'] }}] {{ one['content'] }}\n{% endfor %}"
    )
    fast.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def torch_loss(network: Any, blocks: list[list[int]]) -> float:
    import torch

    losses: list[float] = []
    with torch.no_grad():
        for block in blocks:
            ids = torch.tensor([block])
            losses.append(float(network(input_ids=ids, labels=ids).loss))
    return float(np.mean(losses))


def test_the_built_in_model_is_described_and_imported_once(smollm2: CheckpointRegistry):
    checkpoint = smollm2.ensure_builtin("smollm2-135m")
    assert (checkpoint.task, checkpoint.architecture) == (Task.GENERATE, "llama")
    assert checkpoint.context_tokens == 8192
    assert 134_000_000 < checkpoint.parameters < 135_000_000
    assert checkpoint.weight_bytes < 150_000_000, "the weights are not in 8 bits"
    files = {path.name for path in checkpoint.folder.iterdir()}
    assert {"openvino_model.xml", "openvino_model.bin", "tokenizer.gguf"} < files
    assert "weights.gguf" not in files
    assert [one for one in smollm2.list() if one.name == "smollm2-135m"] == [checkpoint]


def test_the_tokenizer_and_the_converted_weights_are_right(smollm2: CheckpointRegistry):
    checkpoint = smollm2.get("smollm2-135m")
    tokenizer = load_tokenizer(checkpoint)
    encoded: Any = tokenizer.encode(TEXT, add_special_tokens=False)
    ids = encoded.input_ids.data[0].tolist()
    assert tokenizer.decode(ids) == TEXT
    assert held_out_loss(checkpoint, [ids[:64]]) < 4.0
    with pytest.raises(ValueError, match="at least two tokens"):
        held_out_loss(checkpoint, [[1]])


def test_an_import_killed_half_way_leaves_no_checkpoint(tmp_path: Path):
    process = importing(tmp_path, "smollm2-135m", "--builtin")
    assert process.stdout is not None
    for line in process.stdout:
        if "re-quantising" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    registry = CheckpointRegistry(tmp_path)
    assert registry.list() == [] and not registry.has("smollm2-135m")


def test_an_import_that_fails_says_why_and_exits_with_1(tmp_path: Path):
    process = importing(tmp_path, "new", "--path", str(tmp_path / "gone"))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "does not exist" in json.loads(said.splitlines()[-1])["error"]


def test_a_hugging_face_folder_is_imported_with_its_chat_template(tmp_path: Path):
    source = tmp_path / "source"
    vocabulary = make_tokenizer(source)
    network = make_llama(source, vocabulary=vocabulary)
    registry = CheckpointRegistry(tmp_path / "checkpoints")
    checkpoint = registry.import_path("tiny", source)
    assert (checkpoint.task, checkpoint.context_tokens) == (Task.GENERATE, 256)
    assert checkpoint.parameters == sum(one.numel() for one in network.parameters())
    tokenizer = load_tokenizer(checkpoint)
    turns = [{"role": "user", "content": "hello"}]
    assert tokenizer.apply_chat_template(turns, add_generation_prompt=True) == "[user] hello\n"
    encoded: Any = tokenizer.encode(TEXT, add_special_tokens=False)
    ids = encoded.input_ids.data[0].tolist()
    assert tokenizer.decode(ids) == TEXT
    blocks = [ids[:60], ids[60:120]]
    assert held_out_loss(checkpoint, blocks) == pytest.approx(torch_loss(network, blocks), rel=0.03)
    assert registry.trainable_folder("tiny") == source
    # What has been converted can be taken over again as it is.
    copied = registry.import_path("copy", checkpoint.folder)
    assert copied.context_tokens == 256 and copied.weight_bytes == checkpoint.weight_bytes


def test_a_trained_checkpoint_keeps_its_base_tokenizer_and_its_loss(
    smollm2: CheckpointRegistry, tmp_path: Path
):
    base = smollm2.get("smollm2-135m")
    network = make_llama(tmp_path / "hf", vocabulary=49152)
    blocks = [list(range(500, 560)), list(range(900, 960))]
    held_out = {"before": 9.0, "after": 8.0}
    made = smollm2.register_trained(
        name="tuned", base=base, hf_folder=tmp_path / "hf", held_out=held_out
    )
    assert (made.base, made.held_out, made.context_tokens) == ("smollm2-135m", held_out, 256)
    assert held_out_loss(made, blocks) == pytest.approx(torch_loss(network, blocks), rel=0.03)
    text = "naïve 日本語"
    mine, theirs = load_tokenizer(made), load_tokenizer(base)
    assert mine.encode(text).input_ids.data.tolist() == theirs.encode(text).input_ids.data.tolist()
    trainable = smollm2.trainable_folder("tuned")
    assert {"config.json", "model.safetensors"} <= {one.name for one in trainable.iterdir()}
    smollm2.remove("tuned")
    assert not smollm2.has("tuned") and (tmp_path / "hf" / "config.json").exists()


def test_the_original_weights_can_be_trained(smollm2: CheckpointRegistry):
    if psutil.virtual_memory().available < 4e9:
        pytest.skip("needs 4 GB of memory")
    folder = smollm2.trainable_folder("smollm2-135m")
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(538e6, rel=0.01)
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is not False
    assert smollm2.trainable_folder("smollm2-135m") == folder
