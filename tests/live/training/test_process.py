import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from meted.domain.job import AutoTraining, RateFinder, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.training.data import Dataset, save_dataset
from meted.live.training.trial_log import read_trail
from meted.live.wire import Checkpointed, Pause, Paused, Planned, Resume, Stop, Trained

from .trainer_process import TrainerProcess

Start = Callable[..., TrainerProcess]


@pytest.fixture
def start(tmp_path: Path, tiny_folder: Path, spec: TrainingSpec, dataset: Dataset) -> Start:
    """Starts one and the same endless job, or another; its data is read already, so no tokenizer is
    needed."""
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    (folder / "hf").symlink_to(tiny_folder)
    (folder / "checkpoint.json").write_bytes(
        msgspec.json.encode(
            {
                "task": "generate",
                "architecture": "llama",
                "context_tokens": 64,
                "parameters": 1,
                "weight_bytes": 1,
                "source": "test",
                "base": None,
                "created": 0,
                "held_out": {},
            }
        )
    )
    endless = replace(spec, steps=1_000_000, eval_every=1_000_000, checkpoint_every=5)
    workdir = tmp_path / "job"
    workdir.mkdir()
    with (workdir / "data.npz").open("wb") as file:
        save_dataset(dataset, file)
    return lambda **changes: TrainerProcess(
        spec=replace(endless, **changes), registry=folder.parent, workdir=workdir
    )


def test_after_kill_9_a_job_repeats_less_than_one_checkpoint_interval(start: Start) -> None:
    with start() as first:
        first.until(Trained, step=12)
        first.process.send_signal(signal.SIGINT)  # Ctrl-C is for the house to hear.
        os.kill(first.process.pid, signal.SIGKILL)
        assert first.drain() == -signal.SIGKILL
    with start() as second:
        planned = second.until(Planned)
        reached = first.of(Trained)[-1].step
        assert first.of(Checkpointed)[-1].step <= planned.first_step
        assert 0 <= reached - planned.first_step <= 5
        second.until(Trained, step=reached + 2)
        losses = {frame.step: frame.loss for frame in first.of(Trained)}
        for frame in second.of(Trained):
            assert losses.get(frame.step, frame.loss) == frame.loss

        second.send(Pause())
        paused = second.until(Paused)
        second.send(Resume())
        second.until(Trained, step=paused.step + 1)

        second.send(Stop())
        assert second.drain() == 0
        last = second.of(Trained)[-1].step
        assert second.of(Checkpointed)[-1].step == last, "an ordered stop loses nothing"


def test_a_trainer_ends_when_the_house_goes(start: Start) -> None:
    with start() as trainer:
        trainer.until(Trained)
        trainer.house_end.close()
        assert trainer.process.wait(timeout=20) == 0


def test_after_kill_9_a_search_goes_on_after_its_last_finished_rung(
    start: Start, tmp_path: Path
) -> None:
    auto = AutoTraining(
        budget=NanoUSD(10**12), trials=4, levers=("optimizer", "rate"), finder=RateFinder.RECIPE
    )
    known: list[tuple[str, int]] = []
    for _ in range(2):
        with start(steps=60, auto=auto) as killed:
            while len(read_trail(tmp_path / "job").rungs) < len(known) + 2:
                killed.frames += killed.channel.receive(block=True)
            os.kill(killed.process.pid, signal.SIGKILL)
            assert killed.drain() == -signal.SIGKILL
        rungs = [(one.trial, one.rung) for one in read_trail(tmp_path / "job").rungs]
        assert rungs[: len(known)] == known
        known = rungs
    with start(steps=60, auto=auto) as last:
        while read_trail(tmp_path / "job").ended is None:
            assert not last.channel.closed
            last.frames += last.channel.receive(block=True)
        first = last.until(Planned)
    trail = read_trail(tmp_path / "job")
    rungs = [(one.trial, one.rung) for one in trail.rungs]
    assert rungs[: len(known)] == known
    assert len(set(rungs)) == len(rungs), "no finished rung is repeated"
    done = {one.trial: one.step for one in trail.rungs[: len(known)]}
    assert first.first_step >= sum(done.values()), "what was done is counted"
