import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from meted.domain.job import TrainingSpec
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.house import House
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee
from meted.live.training.spec import spec_from_mapping
from meted.testing.recording_link import RecordingLink

torch.set_num_threads(1)


Recorder = RecordingLink


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with tied embeddings, as SmolLM2 has them."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def spec() -> TrainingSpec:
    return spec_from_mapping(
        {
            "name": "tuned",
            "base": "tiny",
            "data": "unused",
            "steps": 8,
            "sequence_tokens": 16,
            "batch_tokens": 64,
            "micro_batch": 2,
            "lora_rank": 4,
            "learning_rate": 0.01,
            "eval_every": 3,
            "checkpoint_every": 4,
            "precision": "fp32",
        }
    )


@pytest.fixture
def dataset() -> Dataset:
    """Counting texts, which can be learnt."""
    starts = np.random.default_rng(3).integers(0, 64, 20)
    rows = (starts[:, None] + np.arange(16)).astype(np.int32)
    return Dataset(train=rows[:15], held_out=rows[15:])


MakeLoop = Callable[..., Loop]


@pytest.fixture
def make_loop(tiny_folder: Path, spec: TrainingSpec, dataset: Dataset) -> MakeLoop:
    def make(folder: Path, recorder: Recorder, **changes: Any) -> Loop:
        changed = replace(spec, **changes)
        return Loop(
            spec=changed,
            dataset=dataset,
            trainee=load_trainee(tiny_folder, changed),
            checkpoints=CheckpointFolder(folder),
            house=House(recorder),
        )

    return make


def wait_for(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
