"""A trial on its way to a target: what it is judged by, and what confirms that it is met."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meted.domain.job import AutoTraining, RateFinder, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.house import House, StopOrdered
from meted.live.training.loop import Loop, Mark, State
from meted.live.training.model import load_trainee
from meted.live.training.search_frame import beginnable, ladder_of
from meted.live.training.trial_log import read_trail
from meted.live.training.trial_run import Shifted
from meted.live.training.trial_target import (
    CONFIRMED,
    JUDGED_TOKENS,
    Seek,
    judging_of,
    level_of,
    met,
    reached_nanos,
)
from meted.live.training.tuning import Search
from meted.live.wire import Evaluated, PhaseChanged
from meted.optimise.trial_looks import LookPlan
from meted.optimise.trials import Ladder

from .conftest import Recorder

AUTO = AutoTraining(
    budget=NanoUSD(100_000_000_000),
    trials=3,
    levers=("rate",),
    finder=RateFinder.RECIPE,
    target_loss=1.0,
    finish=False,
)
PLAN = LookPlan(look=1.0, share=0.25, whole=100.0)


@pytest.fixture
def long_text(dataset: Dataset) -> Dataset:
    """Sixty held-out rows, a sixth of them from other texts."""
    rows = np.tile(dataset.held_out, (12, 1))
    rows[::6] = np.random.default_rng(5).permuted(rows[::6], axis=1)
    return replace(dataset, held_out=rows)


@pytest.fixture
def long_job(spec: TrainingSpec) -> TrainingSpec:
    return replace(spec, steps=18, batch_tokens=256, learning_rate=None)


MakeSearch = Callable[..., Search]


@pytest.fixture
def make_search(
    tiny_folder: Path, long_job: TrainingSpec, long_text: Dataset, tmp_path: Path
) -> MakeSearch:
    def make(house: Recorder, auto: AutoTraining) -> Search:
        return Search(
            spec=replace(long_job, auto=auto),
            auto=auto,
            dataset=long_text,
            workdir=tmp_path,
            house=House(house),
            load=partial(load_trainee, tiny_folder),
        )

    return make


def test_looks_read_less_on_the_way_to_a_target(long_job: TrainingSpec, long_text: Dataset) -> None:
    free = judging_of(long_job, replace(AUTO, target_loss=None), long_text)
    assert len(free.dataset.held_out) == 60 <= JUDGED_TOKENS // long_job.sequence_tokens
    assert free.rest is None
    sought = judging_of(long_job, AUTO, long_text)
    assert sought.rest is not None
    assert (len(sought.dataset.held_out), len(sought.rest)) == (45, 15)
    short = judging_of(replace(long_job, steps=6), AUTO, long_text)
    assert (len(short.dataset.held_out), short.rest) == (16, None)


def test_what_is_judged_and_what_confirms_are_all_of_the_text(
    long_job: TrainingSpec, long_text: Dataset
) -> None:
    rows = np.arange(60 * 16, dtype=np.int32).reshape(60, 16)
    judging = judging_of(long_job, AUTO, replace(long_text, held_out=rows))
    assert judging.rest is not None
    both = np.concatenate([judging.dataset.held_out, judging.rest])
    assert sorted(both[:, 0]) == list(rows[:, 0])
    gaps = np.diff(judging.dataset.held_out[:, 0]) // 16
    assert gaps.max() <= 2, "from all over the text"


def test_a_target_is_met_where_all_of_the_text_meets_it(
    tiny_folder: Path, long_job: TrainingSpec, long_text: Dataset, tmp_path: Path
) -> None:
    house, trainee = Recorder(), load_trainee(tiny_folder, long_job)
    judging = judging_of(long_job, AUTO, long_text)

    def loop(dataset: Dataset, house: Recorder) -> Loop:
        return Loop(
            spec=long_job,
            dataset=dataset,
            trainee=trainee,
            checkpoints=CheckpointFolder(tmp_path / "one"),
            house=House(house),
        )

    whole = loop(long_text, Recorder()).evaluate("before")
    trial = loop(judging.dataset, house)
    judged = trial.mark()
    assert abs(whole - judged) > 1e-4
    seek = Seek(loss=0.0, before=9.0, level=0.0, plan=PLAN, judged=45, rest=judging.rest)
    ask = partial(met, trial, trainee=trainee, micro_batch=long_job.micro_batch, house=House(house))

    between = replace(seek, loss=(whole + judged) / 2, level=-1.0)
    assert not ask(replace(seek, loss=judged - 0.01))
    assert not house.of(Evaluated)[1:], "far from the target nothing is confirmed"
    assert ask(between) == (whole < judged)
    confirmed = [one.loss for one in house.of(Evaluated) if one.when == CONFIRMED]
    assert confirmed == [pytest.approx(whole, abs=2e-6)]
    assert level_of(trial.state, -1.0) == pytest.approx(whole - judged, abs=2e-6)
    # Once is enough: the rest of the trial is told on the level that was found.
    assert ask(between) == (whole < judged)
    assert ask(replace(seek, loss=max(whole, judged) + 0.01))
    assert len(house.of(Evaluated)) == 2
    again = loop(judging.dataset, Recorder())
    again.mark()
    too_hopeful = replace(between, loss=min(whole, judged) - 0.01)
    assert not met(again, too_hopeful, trainee=trainee, micro_batch=2, house=House(house)), (
        "the part met it, all of the text does not"
    )
    phases = [one.phase for one in house.of(PhaseChanged)]
    assert phases[-2:] == ["evaluate", "train"]


def test_what_is_confirmed_is_told_as_it_is() -> None:
    house = Recorder()
    told = [Evaluated(3, when, 2.0, 0) for when in ("during", CONFIRMED)]
    Shifted(house, steps=4, tokens=0, total=None, level=0.5).send(told)
    assert [(one.step, one.loss) for one in house.of(Evaluated)] == [(7, 2.5), (7, 2.0)]


def test_the_cost_of_the_target_is_read_off_between_looks() -> None:
    state = State(step=20, nanos=200, marks=[Mark(10, 100, 2.4), Mark(20, 200, 1.9)])
    seek = Seek(loss=2.25, before=3.0, level=0.1, plan=PLAN, judged=1, rest=None)
    assert reached_nanos(state, seek) == 150
    assert reached_nanos(state, replace(seek, loss=1.9)) is None
    state.held_out["level"] = -0.1
    assert reached_nanos(state, seek) == 110
    assert reached_nanos(State(), seek) is None


def target_of(make_search: MakeSearch, tmp_path: Path) -> float:
    """Halfway to the best of three trials, which are trained whole and forgotten."""
    make_search(Recorder(), replace(AUTO, target_loss=None)).run()
    trail = read_trail(tmp_path)
    (tmp_path / "trials.jsonl").unlink()
    shutil.rmtree(tmp_path / "checkpoints")
    assert trail.begun is not None
    least = min(one.loss for one in trail.rungs if one.loss is not None)
    return (trail.begun.before + least) / 2


def test_what_met_the_target_meets_it_by_the_jobs_own_held_out_loss(
    make_search: MakeSearch,
    tiny_folder: Path,
    long_text: Dataset,
    long_job: TrainingSpec,
    tmp_path: Path,
) -> None:
    target = target_of(make_search, tmp_path)
    house = Recorder()
    chosen = make_search(house, replace(AUTO, target_loss=target)).run()
    trail = read_trail(tmp_path)
    assert trail.begun is not None and trail.ended is not None
    plain = next(iter(trail.begun.trials))
    assert (trail.rungs[0].trial, trail.rungs[0].rung) == (plain, 0)
    won = trail.last[trail.ended.best]
    assert won.reached is not None and won.reached <= won.cost
    assert any(one.when == CONFIRMED for one in house.of(Evaluated))
    loop = Loop(
        spec=chosen.spec,
        dataset=long_text,
        trainee=load_trainee(tiny_folder, chosen.spec),
        checkpoints=CheckpointFolder(tmp_path / "checkpoints"),
        house=House(Recorder()),
    )
    state = loop.run(to_end=False)
    assert state.step == won.step == won.reached_step
    assert state.held_out["after"] == pytest.approx(won.loss, abs=2e-6)
    assert state.held_out["after"] <= target + 1e-5
    others = [one for name, one in trail.last.items() if name != trail.ended.best]
    assert all(one.reached is None or one.reached >= won.reached for one in others)


def test_a_target_out_of_reach_is_said_to_be(make_search: MakeSearch, tmp_path: Path) -> None:
    make_search(Recorder(), replace(AUTO, target_loss=0.01)).run()
    trail = read_trail(tmp_path)
    assert trail.begun is not None and trail.ended is not None
    assert "no trial met the target of 0.01, the nearest came to" in trail.ended.why
    # Nobody is dropped while there is money and a chance.
    assert {one.rung for one in trail.last.values()} == {trail.begun.rungs - 1}


def test_a_search_for_a_target_that_is_killed_goes_on(
    make_search: MakeSearch, tmp_path: Path
) -> None:
    auto = replace(AUTO, target_loss=target_of(make_search, tmp_path))
    starts, done = 0, list[tuple[str, int]]()
    while True:
        starts += 1
        house = Recorder()
        send = house.send

        def go_away(
            frames: Any, house: Recorder = house, send: Any = send, starts: int = starts
        ) -> None:
            send(frames)
            house.closed = house.closed or len(house.of(Evaluated)) >= 2 + starts

        house.send = go_away
        try:
            make_search(house, auto).run()
            break
        except StopOrdered:
            now = [(one.trial, one.rung) for one in read_trail(tmp_path).rungs]
            assert now[: len(done)] == done
            done = now
            assert starts < 30
    assert starts > 1, "it was cut at least once"
    trail = read_trail(tmp_path)
    assert trail.ended is not None
    assert trail.last[trail.ended.best].reached is not None


def test_a_rung_is_as_dear_as_its_look_demands() -> None:
    job, free = NanoUSD(900), NanoUSD(1)
    assert ladder_of(job, 1000, free).rungs == 4
    assert ladder_of(job, 1000, free, NanoUSD(101)).rungs == 2
    assert ladder_of(job, 1000, free, NanoUSD(100)).rungs == 3


def test_as_many_begin_towards_a_target_as_money_begins() -> None:
    ladder = Ladder(first=NanoUSD(100), eta=3, rungs=2)
    assert beginnable(ladder, 675, NanoUSD(10)) == 5
    assert beginnable(ladder, 674, NanoUSD(10)) == 4
