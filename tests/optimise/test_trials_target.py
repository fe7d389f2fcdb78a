"""A target loss is met where the plain training meets it, for little beside it.

The worlds are planted: curves, a job of so many steps, what looking and loading cost. Money is
counted as a search counts it, which takes looks and loading off the budget.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import NanoUSD
from meted.optimise.trial_looks import LookPlan, Seen, crossing
from meted.optimise.trials import Ladder, TargetLoss, TrialAsk, Trials, TrialTold

BEFORE = 3.0
Curve = Callable[[float], float]
"""Held-out loss by the part of the whole training that is done."""


def falls(gain: float, bend: float) -> Curve:
    """A loss that falls ever more slowly, by `gain` in a whole training."""
    return lambda part: BEFORE - gain * (1 - math.exp(-bend * part)) / (1 - math.exp(-bend))


def turns(gain: float, at: float, rise: float) -> Curve:
    """As a rate does that is too high: the loss falls fast, and rises after `at`."""
    return lambda part: BEFORE - gain * min(part, at) / at + rise * max(0.0, part - at)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """steps of 1,000 dollars each; look and loading in dollars, too."""

    curves: Mapping[str, Curve]
    steps: int = 20
    look: int = 1_200
    loading: int = 500
    share: float = 0.25
    rungs: int = 2

    @property
    def job(self) -> int:
        return 1_000 * self.steps

    def search(self, *, target: float, budget: float, seed: int = 0) -> tuple[Trials, int]:
        """The trials at the end, and all dollars that were spent."""
        goal = TargetLoss(
            loss=target,
            budget=NanoUSD(round(budget)),
            before=BEFORE,
            visit=NanoUSD(self.loading),
            share=self.share,
        )
        first = NanoUSD(self.job // 3 ** (self.rungs - 1))
        trials = Trials(
            names=tuple(self.curves),
            ladder=Ladder(first=first, eta=3, rungs=self.rungs),
            goal=goal,
            seed=seed,
        )
        seen = {name: [Seen(0, BEFORE)] for name in self.curves}
        besides = 0
        while True:
            left = NanoUSD(max(0, goal.budget - besides))
            trials, ask = replace(trials, goal=replace(goal, budget=left)).ask()
            if ask is None:
                return trials, trials.spent + besides
            told, looks = self.train(ask, target, trials, seen[ask.trial])
            besides += looks * self.look + self.loading
            trials = trials.tell(told)

    def train(
        self, ask: TrialAsk, target: float, trials: Trials, seen: list[Seen]
    ) -> tuple[TrialTold, int]:
        plan = LookPlan(look=self.look, share=self.share, whole=self.job)
        cost, looks = max((one.cost for one in trials.told if one.trial == ask.trial), default=0), 0
        until = min(ask.until, self.job)
        while seen[-1].loss > target or len(seen) == 1:
            cost += 1_000
            if plan.due(trained=cost, until=until, seen=seen, target=target):
                seen.append(Seen(cost, self.curves[ask.trial](cost / self.job)))
                looks += 1
            if cost >= until:
                break
        found = crossing(seen, target)
        told = TrialTold(
            trial=ask.trial,
            rung=ask.rung,
            loss=seen[-1].loss,
            cost=NanoUSD(cost),
            reached=None if found is None else NanoUSD(math.ceil(found)),
        )
        return told, looks


flattening = st.builds(falls, st.floats(0.05, 1.0), st.floats(0.1, 4.0))
misleading = st.builds(turns, st.floats(0.0, 1.0), st.floats(0.1, 0.6), st.floats(0.0, 2.0))
others = st.lists(flattening | misleading, min_size=0, max_size=8)


@given(flattening, others, st.floats(0.3, 1.0), st.integers(0, 50), st.integers(1, 3))
def test_what_the_plain_training_reaches_is_reached_within_two_trainings(
    plain: Curve, others: list[Curve], where: float, seed: int, rungs: int
) -> None:
    """However the others mislead; a search is never worse informed than the plain training."""
    world = World(curves={"plain": plain, **_named(others)}, rungs=rungs)
    trials, spent = world.search(target=plain(where), budget=2 * world.job, seed=seed)
    answer = trials.answer()
    assert answer.reached is not None
    assert answer.reached <= where * world.job + 1_000 * (world.steps // 4 + 1)
    assert spent <= 2 * world.job + 1_000 + world.look
    assert trials.told[0].trial == "plain"


@given(flattening, others, st.integers(0, 50), st.floats(0.5, 8.0), st.integers(1, 4))
def test_no_more_than_the_budget_is_spent_and_a_rung_follows_the_one_before(
    plain: Curve, others: list[Curve], seed: int, worth: float, rungs: int
) -> None:
    world = World(curves={"plain": plain, **_named(others)}, steps=60, rungs=rungs)
    trials, spent = world.search(target=1.0, budget=worth * world.job, seed=seed)
    # Asks end between two steps; the last one may go over by a step for each trial that it was.
    assert spent <= worth * world.job + 1_000 * len(trials.told) + world.look
    for name in world.curves:
        rungs_of = [one.rung for one in trials.told if one.trial == name]
        assert rungs_of == list(range(len(rungs_of)))


def test_money_for_the_leader_is_not_spent_on_beginning_others() -> None:
    """The plain training goes nowhere; one of the others would meet the target at its very end."""
    curves = {
        "plain": falls(0.02, 1.0),
        "good": falls(0.8, 1.0),
        **{f"t{at}": falls(0.1, 1.0) for at in range(20)},
    }
    world = World(curves=curves)
    for seed in range(20):
        trials, _ = world.search(target=BEFORE - 0.79, budget=5 * world.job, seed=seed)
        tried = {one.trial for one in trials.told}
        assert ("good" in tried) == (trials.answer().best == "good")
        if "good" in tried:
            assert trials.answer().reached is not None


def test_nobody_is_trained_beyond_what_the_target_is_known_to_cost() -> None:
    curves = {"plain": falls(0.8, 3.0), **{f"t{at}": falls(0.5, 1.0) for at in range(6)}}
    world = World(curves=curves, steps=90, look=600)
    trials, _ = world.search(target=BEFORE - 0.6, budget=20 * world.job)
    reached = next(one.reached for one in trials.told if one.reached is not None)
    after = trials.told[[one.reached for one in trials.told].index(reached) + 1 :]
    assert after
    assert all(one.cost <= max(reached, world.job // 3) + 1_000 for one in after)


def test_little_money_still_goes_to_the_nearest() -> None:
    """Too little for a whole training: what is left is not left unspent."""
    plain = falls(0.8, 3.0)
    world = World(curves={"plain": plain, "other": falls(0.1, 1.0)}, look=300)
    trials, spent = world.search(target=plain(0.5), budget=0.75 * world.job)
    assert trials.answer().reached is not None
    assert spent <= 0.75 * world.job + 1_000


def test_a_trial_that_does_not_learn_is_not_waited_for() -> None:
    goal = TargetLoss(loss=2.0, budget=NanoUSD(10**6), before=3.0)
    told = TrialTold(trial="a", rung=0, loss=2.9, cost=NanoUSD(100))
    assert goal.in_reach(told, NanoUSD(500))
    assert not goal.in_reach(told, NanoUSD(499))
    assert not goal.in_reach(replace(told, loss=3.0), NanoUSD(10**6))
    assert replace(goal, before=None).in_reach(told, NanoUSD(1))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_first_is_begun_first_and_kept_money_for_while_it_runs(workers: int) -> None:
    trials = Trials(
        names=("plain", "a", "b", "c", "d"),
        ladder=Ladder(first=NanoUSD(100), eta=3, rungs=2),
        goal=TargetLoss(loss=2.0, budget=NanoUSD(500), before=3.0),
        seed=3,
    )
    asked = list[TrialAsk]()
    for _ in range(workers):
        trials, ask = trials.ask()
        if ask is not None:
            asked.append(ask)
    assert [asked[0].trial, asked[0].rung] == ["plain", 0]
    # 200 are the plain trial's to its end, so that 300 are there for beginning it and two more.
    assert len(asked) == min(workers, 3)


def _named(curves: list[Curve]) -> dict[str, Curve]:
    return {f"t{at}": one for at, one in enumerate(curves)}
