"""Trials: one in eta goes on, money is never overspent, and the best is found for little of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import NanoUSD
from meted.optimise.trials import (
    Goal,
    Ladder,
    LeastLoss,
    TargetLoss,
    TrialAsk,
    Trials,
    TrialTold,
)

LADDER = Ladder(first=NanoUSD(1_000), eta=3, rungs=4)


def curves(seed: int, count: int) -> dict[str, tuple[float, float, float]]:
    """Loss of every trial after d dollars: floor + scale * d^-power. Some learn slower and end
    lower; some diverge."""
    rng = np.random.default_rng(seed)
    return {
        f"t{at}": (rng.uniform(2.0, 3.0), rng.uniform(8, 16), rng.uniform(0.3, 0.5))
        for at in range(count)
    }


def loss_at(curve: tuple[float, float, float], dollars: float) -> float:
    floor, scale, power = curve
    return floor + scale * dollars**-power


def tell(ask: TrialAsk, curve: tuple[float, float, float], goal: Goal) -> TrialTold:
    loss = loss_at(curve, ask.until)
    reached = None
    if isinstance(goal, TargetLoss) and loss <= goal.loss:
        reached = NanoUSD(math.ceil((curve[1] / (goal.loss - curve[0])) ** (1 / curve[2])))
    return TrialTold(
        trial=ask.trial, rung=ask.rung, loss=loss, cost=NanoUSD(ask.until), reached=reached
    )


def run(trials: Trials, truth: dict[str, tuple[float, float, float]], *, workers: int) -> Trials:
    running: list[TrialAsk] = []
    while True:
        while len(running) < workers:
            trials, ask = trials.ask()
            if ask is None:
                break
            running.append(ask)
        if not running:
            return trials
        done = running.pop(0)
        trials = trials.tell(tell(done, truth[done.trial], trials.goal))


def of(truth: dict[str, tuple[float, float, float]], goal: Goal, seed: int = 0) -> Trials:
    return Trials(names=tuple(truth), ladder=LADDER, goal=goal, seed=seed)


@pytest.mark.parametrize("workers", [1, 4])
def test_the_least_loss_is_nearly_found_for_a_sixth_of_what_all_would_cost(workers: int) -> None:
    gaps, shares = [], []
    for seed in range(60):
        truth = curves(seed, 54)
        full = LADDER.at(LADDER.rungs - 1)
        trials = run(of(truth, LeastLoss(budget=NanoUSD(full * 54)), seed), truth, workers=workers)
        answer = trials.answer()
        gaps.append(answer.loss - min(loss_at(curve, full) for curve in truth.values()))
        shares.append(answer.spent / (full * 54))
    assert np.mean([gap <= 0.03 for gap in gaps]) >= 0.9
    assert np.mean(shares) < 1 / 6 and max(shares) < 1 / 4


def test_the_cheapest_way_to_a_target_is_nearly_found() -> None:
    ratios = []
    for seed in range(60):
        truth = curves(seed, 54)
        full = LADDER.at(LADDER.rungs - 1)
        target = float(np.quantile([loss_at(curve, full) for curve in truth.values()], 0.15))
        goal = TargetLoss(loss=target, budget=NanoUSD(full * 54))
        answer = run(of(truth, goal, seed), truth, workers=2).answer()
        assert answer.reached is not None
        least = min(
            (curve[1] / (target - curve[0])) ** (1 / curve[2])
            for curve in truth.values()
            if curve[0] < target
        )
        ratios.append(answer.reached / least)
    assert np.mean([ratio <= 1.1 for ratio in ratios]) >= 0.9


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 6), st.integers(500, 200_000))
def test_the_budget_is_never_overspent_and_no_rung_is_skipped(
    seed: int, count: int, workers: int, budget: int
) -> None:
    truth = curves(seed, count)
    trials = run(of(truth, LeastLoss(budget=NanoUSD(budget)), seed), truth, workers=workers)
    assert trials.spent <= budget
    assert trials.answer().stopped
    for trial in {one.trial for one in trials.told}:
        rungs = [one.rung for one in trials.told if one.trial == trial]
        assert rungs == list(range(len(rungs)))


def test_whoever_goes_on_was_among_the_best_of_its_rung() -> None:
    truth = curves(3, 27)
    trials = run(of(truth, LeastLoss(budget=NanoUSD(10**9))), truth, workers=1)
    for at, told in enumerate(trials.told):
        if told.rung:
            below = [one for one in trials.told[:at] if one.rung == told.rung - 1]
            mine = next(one.loss for one in below if one.trial == told.trial)
            better = sum(one.loss < mine for one in below)
            last = told.rung == LADDER.rungs - 1
            assert better < (LADDER.eta if last else len(below) // LADDER.eta)
    finished = [one for one in trials.told if one.rung == LADDER.rungs - 1]
    assert len(finished) == LADDER.eta


def test_who_leads_early_and_ends_worse_is_not_chosen() -> None:
    """As a learning rate does that is too high: the best before its end, and poor at the end."""
    order = ["hasty", *(f"t{at}" for at in range(8))]
    trials = Trials(
        names=tuple(order),
        ladder=Ladder(first=NanoUSD(10), eta=3, rungs=3),
        goal=LeastLoss(budget=NanoUSD(10_000)),
        seed=0,
    )
    while True:
        trials, ask = trials.ask()
        if ask is None:
            break
        place = order.index(ask.trial)
        loss = 3.0 + place - ask.rung if place else (1.0, 0.9, 4.0)[ask.rung]
        trials = trials.tell(
            TrialTold(trial=ask.trial, rung=ask.rung, loss=loss, cost=NanoUSD(ask.until))
        )
    assert {"hasty", "t0"} < {one.trial for one in trials.told if one.rung == 2}
    assert (trials.answer().best, trials.answer().loss) == ("t0", 2.0)


def test_equal_seeds_ask_alike_and_others_begin_elsewhere() -> None:
    truth = curves(1, 20)
    goal = LeastLoss(budget=NanoUSD(100_000))
    one, two, other = (run(of(truth, goal, seed), truth, workers=3) for seed in (4, 4, 5))
    assert one == two
    assert [told.trial for told in one.told[:8]] != [told.trial for told in other.told[:8]]


@pytest.mark.parametrize(("loss", "failed"), [(1.0, "out of memory"), (math.nan, None)])
def test_a_trial_that_diverged_or_failed_never_goes_on(loss: float, failed: str | None) -> None:
    """The best of its rung, and yet nothing more is asked."""
    trials = Trials(
        names=("a", "b", "c"), ladder=LADDER, goal=LeastLoss(budget=NanoUSD(10**9)), seed=0
    )
    for _ in range(3):
        trials, ask = trials.ask()
        assert ask is not None and ask.rung == 0
        best = ask.trial == "b"
        told = TrialTold(
            trial=ask.trial,
            rung=0,
            loss=loss if best else math.nan,
            cost=NanoUSD(1_000),
            failed=failed,
        )
        trials = trials.tell(told)
    _, ask = trials.ask()
    assert ask is None
    assert trials.answer().best == (None if math.isnan(loss) else "b")
    assert trials.answer().stopped == "every trial that is worth it has been trained"


def test_what_was_not_asked_is_refused() -> None:
    trials = Trials(names=("a",), ladder=LADDER, goal=LeastLoss(budget=NanoUSD(10**6)), seed=0)
    told = TrialTold(trial="a", rung=0, loss=1.0, cost=NanoUSD(1_000))
    with pytest.raises(ValueError, match="which was not asked"):
        trials.tell(told)
    trials, _ = trials.ask()
    trials = trials.tell(told)
    with pytest.raises(ValueError, match="which was not asked"):
        trials.tell(replace(told, loss=0.5))
    with pytest.raises(ValueError, match="each name once"):
        replace(trials, names=("a", "a"))
