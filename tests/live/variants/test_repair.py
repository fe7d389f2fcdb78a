"""Short training makes what was cut better, by the measure that it is trained on."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from meted.domain.job import Method
from meted.domain.variant import Distil, PruneLayers, Repair
from meted.live.checkpoints import CheckpointError
from meted.live.variants.measure import compare
from meted.live.variants.networks import TorchNetwork
from meted.live.variants.prune import prune
from meted.live.variants.repair import distil, distillation_loss, repair
from meted.live.variants.text import Block

from .tiny import TEXT, make_network, read

BLOCKS = [Block(document=str(number), ids=row) for number, row in enumerate(TEXT)]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A network, and what is left of it with a layer less."""
    make_network().save_pretrained(tmp_path / "whole")
    prune(tmp_path / "whole", PruneLayers(share=0.33), TEXT, tmp_path / "cut")
    return tmp_path / "whole", tmp_path / "cut"


def test_the_loss_is_hintons() -> None:
    taught, learnt = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    how = Distil(share=0.5, temperature=2.0, weight=0.75)
    p = 1 / (1 + math.exp(-1))
    divergence = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert float(distillation_loss(taught, learnt, torch.tensor([[0]]), how)) == pytest.approx(
        0.75 * 4 * divergence + 0.25 * math.log(2)
    )


@pytest.mark.parametrize("method", list(Method))
def test_a_repair_lowers_the_loss_on_its_text(
    folders: tuple[Path, Path], tmp_path: Path, method: Method
) -> None:
    _, cut = folders
    ticks: list[int] = []
    how = Repair(steps=12, method=method, batch_tokens=128, learning_rate=0.01)
    repair(cut, how, TEXT, tmp_path / "repaired", lambda: ticks.append(1))
    found = compare(
        TorchNetwork(read(cut)), TorchNetwork(read(tmp_path / "repaired")), BLOCKS, lambda: None
    )
    assert found.increase.upper < -0.3
    assert len(ticks) == 12


def test_a_student_comes_nearer_to_its_teacher(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole, cut = folders
    how = Distil(share=0.33, steps=12, batch_tokens=128, learning_rate=0.003, weight=1.0)
    distil(whole, cut, how, TEXT, tmp_path / "student", lambda: None)
    teacher = TorchNetwork(read(whole))
    before = compare(teacher, TorchNetwork(read(cut)), BLOCKS, lambda: None)
    after = compare(teacher, TorchNetwork(read(tmp_path / "student")), BLOCKS, lambda: None)
    assert after.kl.mean < before.kl.mean / 2


def test_a_loss_that_is_lost_ends_the_repair(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, cut = folders
    how = Repair(steps=12, method=Method.FULL, batch_tokens=128, learning_rate=1e30)
    with pytest.raises(CheckpointError, match="lost in step"):
        repair(cut, how, np.tile(TEXT, (2, 1)), tmp_path / "repaired", lambda: None)
