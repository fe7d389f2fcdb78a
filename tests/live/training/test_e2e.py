from pathlib import Path

import pytest

from meted.live.checkpoints import CheckpointRegistry
from meted.live.training.spec import spec_from_mapping
from meted.live.wire import Evaluated, Finished, Planned, Trained

from .trainer_process import TrainerProcess

TEXT = """The house meters every step. A replica serves, a job trains, and a core that does neither
is idle; each of the three is a line in the books. Line {number} of the manual says so.
"""


@pytest.mark.e2e
def test_a_real_model_is_trained_converted_and_registered(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(60):
        (texts / f"{number}.txt").write_text(TEXT.format(number=number))
    registry = CheckpointRegistry(tmp_path / "checkpoints")
    spec = spec_from_mapping(
        {
            "name": "tuned",
            "base": "smollm2-135m",
            "data": str(texts),
            "steps": 3,
            "sequence_tokens": 64,
            "batch_tokens": 256,
            "micro_batch": 4,
        }
    )
    with TrainerProcess(
        spec=spec, registry=tmp_path / "checkpoints", workdir=tmp_path / "job"
    ) as trainer:
        trainer.until(Finished)
        assert trainer.drain() == 0
    assert trainer.of(Planned)[0].total_steps == 3
    assert [frame.step for frame in trainer.of(Trained)] == [1, 2, 3]
    losses = {frame.when: frame.loss for frame in trainer.of(Evaluated)}
    assert losses["after"] < losses["before"] - 0.2
    assert losses["converted"] < losses["before"] - 0.2, "the conversion kept the gain"
    tuned = registry.get("tuned")
    assert tuned.base == "smollm2-135m"
    assert tuned.held_out == losses
