from pathlib import Path

import pytest
import torch

from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.errors import TrainingError
from meted.live.training.house import StopOrdered
from meted.live.training.loop import gave_up
from meted.live.training.spec import OPTIMIZER_NAMES, has_low_bit
from meted.live.wire import (
    Checkpointed,
    Evaluated,
    Pause,
    Paused,
    PhaseChanged,
    Planned,
    Resume,
    Stop,
    Trained,
)

from .conftest import MakeLoop, Recorder


def polls_until_step(make_loop: MakeLoop, folder: Path, step: int, **changes: object) -> int:
    """How often a trainer has polled when it says that this step is done."""
    counter = Recorder()
    seen: list[int] = []
    send = counter.send

    def watch(frames):
        send(frames)
        if any(isinstance(one, Trained) and one.step == step for one in frames):
            seen.append(counter.polls)

    counter.send = watch
    make_loop(folder, counter, **changes).run()
    return seen[0]


def needs_library(optimizer: str) -> None:
    if optimizer == "adamw8bit" and not has_low_bit():
        pytest.skip("bitsandbytes, the extra low-bit, is not installed")


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        ("lora", "adamw"),
        ("full", "adamw"),
        ("full", "muon"),
        ("lora", "momentum"),
        ("full", "gd"),
        ("lora", "lion"),
        ("lora", "adamw8bit"),
    ],
)
def test_a_resumed_job_takes_exactly_the_same_course(
    make_loop: MakeLoop, tmp_path: Path, method: str, optimizer: str
) -> None:
    needs_library(optimizer)
    changes = {"method": method, "optimizer": optimizer}
    straight = make_loop(tmp_path / "straight", Recorder(), **changes)
    straight.run()

    # The house goes away in the middle of step 7: what came after the checkpoint of step 4 is lost.
    polls = polls_until_step(make_loop, tmp_path / "count", 6, **changes)
    cut = Recorder()
    receive = cut.receive

    def go_away(*, block: bool) -> list[object]:
        cut.closed = cut.polls >= polls
        return receive(block=block)

    cut.receive = go_away
    with pytest.raises(StopOrdered):
        make_loop(tmp_path / "cut", cut, **changes).run()
    assert [one.step for one in cut.of(Trained)][-1] == 6

    again = Recorder()
    resumed = make_loop(tmp_path / "cut", again, **changes)
    resumed.run()
    assert again.of(Planned)[0].first_step == 4
    assert resumed.state.losses == straight.state.losses
    assert resumed.state.held_out == straight.state.held_out
    assert resumed.state.tokens == straight.state.tokens
    for one, other in zip(
        resumed._trainee.weights().values(), straight._trainee.weights().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_truncated_checkpoint_is_passed_over(make_loop: MakeLoop, tmp_path: Path) -> None:
    straight = make_loop(tmp_path, Recorder())
    straight.run()
    newest = tmp_path / "step-00000008.pt"
    newest.write_bytes(newest.read_bytes()[:-2000])

    again = Recorder()
    resumed = make_loop(tmp_path, again)
    resumed.run()
    assert again.of(Planned)[0].first_step == 4
    assert resumed.state.losses == straight.state.losses


def test_a_checkpoint_with_a_flipped_bit_is_passed_over(tmp_path: Path) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"step": step, "weights": torch.ones(1000)})
    newest = tmp_path / "step-00000002.pt"
    content = bytearray(newest.read_bytes())
    content[content.index(torch.ones(100).numpy().tobytes()) + 50] ^= 1
    newest.write_bytes(content)
    found = checkpoints.newest()
    assert found is not None
    assert found["step"] == 1


def test_the_last_two_checkpoints_are_kept(make_loop: MakeLoop, tmp_path: Path) -> None:
    (tmp_path / "step-00000099.pt.part").write_bytes(b"half")
    make_loop(tmp_path, Recorder(), checkpoint_every=2).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000006.pt",
        "step-00000008.pt",
    ]


def test_pause_within_a_step_is_durable_and_changes_nothing(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    straight = make_loop(tmp_path / "straight", Recorder())
    straight.run()
    # One poll after step 5 lies between the two micro-batches of step 6.
    polls = polls_until_step(make_loop, tmp_path / "count", 5)
    house = Recorder({polls + 1: [Pause()], polls + 2: [Resume()]})
    paused = make_loop(tmp_path / "paused", house)
    paused.run()
    assert [one.step for one in house.of(Paused)] == [5]
    assert 5 in [one.step for one in house.of(Checkpointed)]
    assert paused.state.losses == straight.state.losses


def test_stop_makes_a_checkpoint_and_loses_nothing(make_loop: MakeLoop, tmp_path: Path) -> None:
    polls = polls_until_step(make_loop, tmp_path / "count", 6)
    house = Recorder({polls + 1: [Stop()]})
    with pytest.raises(StopOrdered):
        make_loop(tmp_path / "stopped", house).run()
    assert house.of(Checkpointed)[-1].step == 6
    again = Recorder()
    make_loop(tmp_path / "stopped", again).run()
    assert again.of(Planned)[0].first_step == 6


def test_stop_ends_a_pause(make_loop: MakeLoop, tmp_path: Path) -> None:
    house = Recorder({6: [Pause()], 7: [Stop()]})
    with pytest.raises(StopOrdered):
        make_loop(tmp_path, house).run()


def test_the_house_hears_everything_in_order(make_loop: MakeLoop, tmp_path: Path) -> None:
    house = Recorder()
    loop = make_loop(tmp_path, house)
    state = loop.run()
    planned = house.of(Planned)[0]
    assert house.frames[0] == planned
    assert isinstance(house.frames[1], PhaseChanged), "loading ends with the plan"
    assert (planned.total_steps, planned.first_step) == (8, 0)
    assert [one.when for one in house.of(Evaluated)] == ["before", "during", "during", "after"]
    assert [one.step for one in house.of(Evaluated)] == [0, 3, 6, 8]
    assert [one.step for one in house.of(Checkpointed)] == [4, 8]
    assert [one.tokens for one in house.of(Trained)] == [64 * step for step in range(1, 9)]
    clocks = [one.cpu_ns for one in house.frames if hasattr(one, "cpu_ns")]
    assert clocks == sorted(clocks)
    assert state.held_out["after"] < state.held_out["before"]


@pytest.mark.parametrize(
    ("optimizer", "method"),
    [
        *((name, "lora") for name in OPTIMIZER_NAMES),
        *((name, "full") for name in ("sgd", "adamw", "adafactor", "muon")),
    ],
)
def test_every_optimizer_learns_with_its_own_rate(
    make_loop: MakeLoop, tmp_path: Path, optimizer: str, method: str
) -> None:
    needs_library(optimizer)
    loop = make_loop(
        tmp_path, Recorder(), optimizer=optimizer, method=method, learning_rate=None, eval_every=99
    )
    state = loop.run()
    assert state.held_out["after"] < state.held_out["before"]


def test_gd_takes_the_whole_training_part_in_each_step(make_loop: MakeLoop, tmp_path: Path) -> None:
    house = Recorder()
    make_loop(tmp_path, house, optimizer="gd", steps=2).run()
    assert [one.tokens for one in house.of(Trained)] == [15 * 16, 2 * 15 * 16]


def test_epochs_count_passes_over_the_training_part(make_loop: MakeLoop, tmp_path: Path) -> None:
    house = Recorder()
    make_loop(tmp_path, house, steps=None, epochs=2).run()
    assert house.of(Planned)[0].total_steps == 8, "15 sequences, 4 in a step, twice"


def test_micro_batches_do_not_change_the_gradient(make_loop: MakeLoop, tmp_path: Path) -> None:
    losses = [
        make_loop(tmp_path / str(size), Recorder(), micro_batch=size, batch_tokens=80).run().losses
        for size in (1, 3, 5)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)


def test_a_lost_loss_is_an_error_that_names_the_rate(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(tmp_path, Recorder(), optimizer="sgd", learning_rate=1e30, method="full")
    with pytest.raises(TrainingError, match="lower learning_rate"):
        loop.run()


def test_patience_ends_training_and_keeps_the_best_weights(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    # This rate is too high to settle: held-out losses go up again.
    changes = {"steps": 60, "eval_every": 2, "learning_rate": 0.6, "optimizer": "adam"}
    house = Recorder()
    loop = make_loop(tmp_path / "patient", house, patience=3, **changes)
    state = loop.run()
    seen = [one.loss for one in house.of(Evaluated) if one.when == "during"]
    assert state.step < 60
    assert min(seen[-3:]) >= min(seen[:-3]), "three losses in a row were no better"
    assert state.held_out["after"] == min(seen)
    assert loop._measure() == pytest.approx(min(seen), abs=1e-6), "the weights are those"


def test_patience_holds_across_a_kill_between_mark_and_checkpoint(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    changes = {
        **{"steps": 60, "eval_every": 2, "checkpoint_every": 6, "patience": 3},
        **{"learning_rate": 0.6, "optimizer": "adam"},
    }
    straight = make_loop(tmp_path / "straight", Recorder(), **changes)
    straight.run()
    cut = Recorder()
    send = cut.send

    def go_away(frames):
        send(frames)
        cut.closed = cut.closed or any(
            isinstance(one, Evaluated) and one.step == 8 for one in frames
        )

    cut.send = go_away
    with pytest.raises(StopOrdered):
        make_loop(tmp_path / "cut", cut, **changes).run()
    resumed = make_loop(tmp_path / "cut", Recorder(), **changes)
    resumed.run()
    assert [(one.step, one.loss) for one in resumed.state.marks] == [
        (one.step, one.loss) for one in straight.state.marks
    ]
    assert resumed.state.losses == straight.state.losses
    assert resumed.state.held_out == straight.state.held_out


@pytest.mark.parametrize(
    ("losses", "patience", "ends"),
    [
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.0], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([3.0, 4.0, 5.0], None, False),
        ([], 1, False),
    ],
)
def test_patience_counts_losses_without_a_new_least(
    losses: list[float], patience: int | None, ends: bool
) -> None:
    assert gave_up(losses, patience) is ends


def test_activation_checkpointing_changes_no_loss(make_loop: MakeLoop, tmp_path: Path) -> None:
    losses = [
        make_loop(tmp_path / str(on), Recorder(), activation_checkpointing=on).run().losses
        for on in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_device_time_of_steps_is_kept_across_a_stop(make_loop: MakeLoop, tmp_path: Path) -> None:
    first = make_loop(tmp_path, Recorder({9: [Stop()]}))
    with pytest.raises(StopOrdered):
        first.run()
    again = make_loop(tmp_path, Recorder())
    again.begin()
    assert again.state.nanos == first.state.nanos > 0
