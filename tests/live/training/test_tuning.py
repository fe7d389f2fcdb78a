from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from meted.domain.job import AutoTraining, RateFinder, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, StopOrdered
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee
from meted.live.training.range_test import RateFound, find_rate, range_test
from meted.live.training.search_frame import affordable
from meted.live.training.trial_log import read_trail
from meted.live.training.trial_run import Shifted
from meted.live.training.trial_table import losers, rows_of
from meted.live.training.trial_target import JUDGED_TOKENS
from meted.live.training.tuning import Search
from meted.live.wire import Checkpointed, Evaluated, Frame, Planned, Stop, Trained
from meted.optimise.trials import Ladder

from .conftest import Recorder

PLENTY = NanoUSD(100_000_000_000)
AUTO = AutoTraining(budget=PLENTY, trials=5, levers=("optimizer", "rate"), finder=RateFinder.RECIPE)

MakeSearch = Callable[..., Search]


@pytest.fixture
def make_search(
    tiny_folder: Path, spec: TrainingSpec, dataset: Dataset, tmp_path: Path
) -> MakeSearch:
    def make(house: Recorder, auto: AutoTraining = AUTO, **more: Any) -> Search:
        return Search(
            spec=replace(spec, steps=18, auto=auto, learning_rate=None),
            auto=auto,
            dataset=dataset,
            workdir=tmp_path,
            house=House(house),
            load=partial(load_trainee, tiny_folder),
            **more,
        )

    return make


def finish(chosen: TrainingSpec, folder: Path, tiny: Path, dataset: Dataset, house: House) -> Loop:
    loop = Loop(
        spec=chosen,
        dataset=dataset,
        trainee=load_trainee(tiny, chosen),
        checkpoints=CheckpointFolder(folder),
        house=house,
    )
    loop.run()
    return loop


def test_the_best_trial_goes_on_as_if_it_had_been_the_job_from_the_start(
    make_search: MakeSearch, tiny_folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    house = Recorder()
    chosen = make_search(house).run()
    trail = read_trail(tmp_path)
    assert trail.begun is not None and trail.ended is not None
    assert len(trail.last) == 5, "there was money for all"
    best = trail.last[trail.ended.best]
    assert best.loss == min(one.loss for one in trail.last.values() if one.loss is not None)
    assert chosen.steps == sum(one.step for one in trail.last.values()) - best.step
    assert not (tmp_path / "trials").exists()

    resumed = Recorder()
    goes_on = finish(
        chosen.spec,
        tmp_path / "checkpoints",
        tiny_folder,
        dataset,
        House(Shifted(resumed, steps=chosen.steps, tokens=chosen.tokens, total=None)),
    )
    assert resumed.of(Planned)[0].first_step == chosen.steps + best.step
    plain = finish(chosen.spec, tmp_path / "plain", tiny_folder, dataset, House(Recorder()))
    assert goes_on.state.losses == plain.state.losses
    assert goes_on.state.held_out["after"] == plain.state.held_out["after"]
    assert goes_on.state.held_out["before"] == trail.begun.before
    for one, other in zip(
        goes_on._trainee.weights().values(), plain._trainee.weights().values(), strict=True
    ):
        assert torch.equal(one, other)
    every = [*house.frames, *resumed.frames]
    steps = [one.step for one in every if isinstance(one, Trained | Checkpointed)]
    assert steps == sorted(steps), "the job only goes forward"


@pytest.mark.parametrize("cut", [Trained, Evaluated])
def test_a_killed_search_repeats_no_finished_rung(
    make_search: MakeSearch, tmp_path: Path, cut: type[Frame]
) -> None:
    starts, done = 0, list[tuple[str, int]]()
    while True:
        starts += 1
        house = Recorder()
        send = house.send

        def go_away(
            frames: Any, house: Recorder = house, send: Any = send, starts: int = starts
        ) -> None:
            send(frames)
            # The house is gone after two steps or evaluations, the next time after four, and so on:
            # at first within any rung, and in the end there is time for every one.
            house.closed = house.closed or len(house.of(cut)) >= 2 * starts

        house.send = go_away
        try:
            make_search(house).run()
            break
        except StopOrdered:
            now = [(one.trial, one.rung) for one in read_trail(tmp_path).rungs]
            assert now[: len(done)] == done
            done = now
            assert starts < 30
    assert starts > 1, "it was cut at least once"
    rungs = [(one.trial, one.rung) for one in read_trail(tmp_path).rungs]
    assert len(set(rungs)) == len(rungs)
    trail = read_trail(tmp_path)
    spent = [one.spent for one in trail.rungs]
    assert spent == sorted(spent)
    assert trail.ended is not None and trail.ended.spent >= spent[-1]


def test_an_order_to_stop_keeps_the_step_within_a_trial(
    make_search: MakeSearch, tmp_path: Path
) -> None:
    first = Recorder()
    make_search(first).run()
    for name in ("trials.jsonl",):
        (tmp_path / name).unlink()
    polls = first.polls // 3
    stopped = Recorder({polls: [Stop()]})
    with pytest.raises(StopOrdered):
        make_search(stopped).run()
    again = Recorder()
    make_search(again).run()
    made = [one.step for one in stopped.of(Trained)]
    if made:
        assert again.of(Planned)[0].first_step >= stopped.of(Checkpointed)[-1].step - 1


def test_the_search_ends_with_its_budget(make_search: MakeSearch, tmp_path: Path) -> None:
    price = NanoUSD(1_000_000_000)
    auto = replace(AUTO, trials=200, budget=NanoUSD(600_000), price=price)
    make_search(Recorder(), auto).run()
    trail = read_trail(tmp_path)
    assert trail.begun is not None and trail.ended is not None
    assert len(trail.begun.trials) > len(trail.last) or "is spent" in trail.ended.why or trail.rungs
    largest = max((one.cost for one in trail.rungs), default=0)
    assert trail.spent * price / 3.6e12 <= 600_000 + 3 * max(largest, 100_000)


def test_without_money_for_a_rung_the_job_is_what_was_asked_for(
    make_search: MakeSearch, tmp_path: Path
) -> None:
    chosen = make_search(Recorder(), replace(AUTO, budget=NanoUSD(1))).run()
    assert chosen.spec.optimizer == "adamw"
    assert (chosen.steps, chosen.tokens) == (0, 0)
    assert not (tmp_path / "checkpoints").exists()
    ended = read_trail(tmp_path).ended
    assert ended is not None and "a trial's first rung costs $" in ended.why


def test_a_search_alone_without_money_for_a_rung_fails(make_search: MakeSearch) -> None:
    with pytest.raises(TrainingError, match=r"no trial was made: the search's budget is \$0"):
        make_search(Recorder(), replace(AUTO, budget=NanoUSD(1), finish=False)).run()


def test_a_deadline_ends_the_search_with_the_best_so_far(
    make_search: MakeSearch, tmp_path: Path
) -> None:
    clock = iter(range(0, 100_000, 10))
    auto = replace(AUTO, deadline_s=200.0)
    make_search(Recorder(), auto, wall=lambda: float(next(clock))).run()
    trail = read_trail(tmp_path)
    assert trail.ended is not None
    assert trail.ended.why == "the deadline of 200 s has passed"
    assert trail.ended.best in (trail.last or trail.begun.trials)


def test_a_target_is_sought_for_the_least_money(make_search: MakeSearch, tmp_path: Path) -> None:
    free = make_search(Recorder(), replace(AUTO, levers=("rate",))).run()
    assert free.spec is not None
    first = read_trail(tmp_path)
    assert first.begun is not None
    losses = [one.loss for one in first.rungs if one.loss is not None]
    target = (first.begun.before + min(losses)) / 2
    (tmp_path / "trials.jsonl").unlink()
    make_search(Recorder(), replace(AUTO, levers=("rate",), target_loss=target)).run()
    trail = read_trail(tmp_path)
    assert trail.ended is not None
    met = [one for one in trail.rungs if one.reached is not None]
    assert met
    assert trail.last[trail.ended.best].reached == min(one.reached for one in met)
    for one in met:
        assert one.loss is not None and one.loss <= target and one.reached <= one.cost


def test_losses_on_a_part_of_the_held_out_text_are_told_on_the_level_of_all(
    dataset: Dataset, tiny_folder: Path, spec: TrainingSpec, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    easy = np.repeat(dataset.held_out[:1], 600, axis=0)
    hard = random.permuted(dataset.held_out[:1].repeat(600, axis=0), axis=1)
    # Every other row, from the first on, is what trials are judged by.
    rows = np.stack([easy, hard], axis=1).reshape(-1, dataset.held_out.shape[1])
    house, auto = Recorder(), replace(AUTO, trials=2)
    Search(
        spec=replace(spec, steps=18, auto=auto, learning_rate=None),
        auto=auto,
        dataset=replace(dataset, held_out=rows[: 2 * (JUDGED_TOKENS // spec.sequence_tokens)]),
        workdir=tmp_path,
        house=House(house),
        load=partial(load_trainee, tiny_folder),
    ).run()
    trail = read_trail(tmp_path)
    losses = {one.when: one.loss for one in house.of(Evaluated)}
    assert trail.begun is not None and abs(trail.begun.level) > 1e-4
    assert trail.begun.level == losses["before"] - losses["judged"]
    told = [one.loss for one in house.of(Evaluated) if one.when not in ("before", "judged")]
    assert {one.loss for one in trail.rungs} <= set(told)


def test_a_trial_that_is_lost_is_told_with_its_reason(
    make_search: MakeSearch, tmp_path: Path
) -> None:
    auto = replace(AUTO, levers=("rank",), trials=2)
    search = make_search(Recorder(), auto)
    search._spec = replace(search._spec, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"none of \d+ trials has a loss.*lower learning_rate"):
        search.run()


def test_every_row_says_why_it_was_stopped(make_search: MakeSearch, tmp_path: Path) -> None:
    make_search(Recorder()).run()
    trail = read_trail(tmp_path)
    rows = rows_of(trail)
    assert rows[0].best and rows[0].stopped == "chosen"
    assert len(rows) == len(trail.last)
    assert all(one.stopped for one in rows)
    others = {one.optimizer for one in rows} - {rows[0].optimizer}
    assert {sentence.split()[0] for sentence in losers(trail)} == others


def test_a_range_test_puts_the_weights_back(
    tiny_folder: Path, spec: TrainingSpec, dataset: Dataset
) -> None:
    trainee = load_trainee(tiny_folder, spec)
    first = {name: one.clone() for name, one in trainee.weights().items()}
    points = range_test(
        trainee,
        spec,
        dataset.train[:4],
        usual=0.01,
        house=House(Recorder()),
        durable=lambda: 0,
    )
    assert [one.rate for one in points] == sorted(one.rate for one in points)
    assert points[0].loss > min(one.loss for one in points)
    for name, one in trainee.weights().items():
        assert torch.equal(one, first[name])
    assert all(one.grad is None for one in trainee.parameters.values())


@pytest.mark.parametrize("layers", [1.0, 0.5])
def test_a_range_test_finds_a_rate_or_says_why_not(
    tiny_folder: Path, spec: TrainingSpec, dataset: Dataset, layers: float
) -> None:
    found: RateFound = find_rate(
        load_trainee(tiny_folder, replace(spec, lora_rank=16), layers=layers),
        spec,
        dataset.train[:4],
        usual=0.01,
        batch_rows=16,
        house=House(Recorder()),
        durable=lambda: 0,
    )
    assert found.said
    if found.rate is not None:
        assert found.rate.low <= found.rate.expected <= found.rate.high


@pytest.mark.parametrize("finder", [RateFinder.RANGE, RateFinder.PROXY])
def test_what_the_finder_said_is_kept(
    make_search: MakeSearch, tmp_path: Path, finder: RateFinder
) -> None:
    make_search(Recorder(), replace(AUTO, finder=finder, trials=2)).run()
    begun = read_trail(tmp_path).begun
    assert begun is not None
    assert "range test on " + ("a proxy" if finder is RateFinder.PROXY else "the net") in begun.rate


def test_as_many_trials_begin_as_the_money_lasts_for() -> None:
    ladder = Ladder(first=NanoUSD(10), eta=3, rungs=3)
    # Nine begin for 90, three go on for 60, three finish for 180.
    assert affordable(ladder, 330, NanoUSD(0)) == 9
    assert affordable(ladder, 329, NanoUSD(0)) == 8
    # Of 81, nine finish: 810 + 540 + 540.
    assert affordable(ladder, 1890, NanoUSD(0)) == 81
    assert affordable(ladder, 100, NanoUSD(0)) == 1
    assert affordable(Ladder(first=NanoUSD(90), eta=3, rungs=1), 200, NanoUSD(10)) == 2
