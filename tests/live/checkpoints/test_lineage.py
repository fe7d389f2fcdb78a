"""What a checkpoint's description keeps of where it comes from and how good it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meted.domain.job import Method
from meted.domain.levers import ALL, parse_lever
from meted.domain.variant import FineTune, LineageStep
from meted.live.checkpoints import CheckpointError
from meted.live.checkpoints.checkpoint import (
    DESCRIPTION,
    Checkpoint,
    read_checkpoint,
    rewrite_description,
)
from meted.live.checkpoints.quality import FineTuneKept, Quality, TextQuality
from meted.predict.estimate import Estimate

OLD = {
    **{"task": "generate", "architecture": "llama", "context_tokens": 64, "parameters": 1},
    **{"weight_bytes": 1, "source": "/nowhere", "base": None, "created": 0, "held_out": {}},
}
TEXT = TextQuality(
    text="notes",
    documents=12,
    tokens=900,
    loss=Estimate(low=2.9, expected=3.0, high=3.1, level=0.95),
    loss_increase=Estimate(low=-0.01, expected=0.0, high=0.01, level=0.95),
    kl=Estimate(low=0.001, expected=0.002, high=0.003, level=0.95),
    same_top=Estimate(low=0.97, expected=0.98, high=0.99, level=0.95),
)
QUALITY = Quality(
    parent="mother",
    text=TEXT,
    accuracy=Estimate(low=0.7, expected=0.8, high=0.9, level=0.95),
    parent_accuracy=Estimate(low=0.7, expected=0.8, high=0.9, level=0.95),
    questions=50,
    passed=True,
    reason="all is inside",
    fine_tune=FineTuneKept(gain=0.3, lost=0.1, quality=TEXT),
)


@pytest.fixture
def old(tmp_path: Path) -> Checkpoint:
    """A checkpoint described before there were lineages."""
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / DESCRIPTION).write_text(json.dumps(OLD))
    return read_checkpoint(folder)


def test_a_description_from_before_is_read(old: Checkpoint) -> None:
    assert (old.lineage, old.quality) == ((), None)


def test_every_transformation_and_all_quality_come_back_from_disk(old: Checkpoint) -> None:
    steps = [step for name in ALL for _, step in parse_lever(name).steps]
    steps.append(FineTune(job="debian", method=Method.LORA, optimizer="adamw", lora_rank=16))
    lineage = tuple(LineageStep(parent="mother", transformation=step) for step in steps)
    described = replace(old, lineage=lineage, quality=QUALITY)
    rewrite_description(described)
    assert read_checkpoint(old.folder) == described
    assert [path.name for path in old.folder.iterdir()] == [DESCRIPTION]


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [("melt", {}, "'melt'"), ("quantise", {"type": "int5"}, "int5"), ("quantise", {}, "type")],
)
def test_a_lineage_that_is_not_understood_is_an_error(
    old: Checkpoint, kind: str, settings: dict[str, str], said: str
) -> None:
    step = {"parent": "mother", "kind": kind, "settings": settings}
    (old.folder / DESCRIPTION).write_text(json.dumps({**OLD, "lineage": [step]}))
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(old.folder)
