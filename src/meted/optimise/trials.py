"""Which training settings are worth their dollars: asynchronous successive halving (ASHA).

Li, Jamieson, Rostamizadeh et al. 2020. Every trial trains until it has cost the first rung's
dollars; the best of every `eta` go on to the next rung, at `eta` times as much. At the end `eta` of
them at least are trained whole: a training that is only begun says too little of how it ends, since
high learning rates lead early. Rungs are dollars, not steps, so that a trial of small cheap steps
is compared with one of large dear ones at equal cost. Ask and tell; several trials may run at once.

The first trial is what would be trained without a search, and begins before the others. Where a
target is sought and none has met it, money for training that one whole is kept, and then for the
one nearest to the target: to have met it nowhere is the worst that a search can come to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from meted.domain.units import NanoUSD

HOPE = 2.0
MOST_OF_WAY = 0.75
"""Money is kept for a trial where it lasts for so much of what is left of its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastLoss:
    """Find the least loss, and spend at most this on all trials together."""

    budget: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLoss:
    """Find the fewest dollars to this loss, and spend at most the budget on all trials together.

    before: the loss without any training, None if unknown. visit: dollars of taking a trial up
    again; share: of a training's dollars that looking at its loss costs besides. Both are kept
    back, and otherwise the caller's to take off the budget."""

    loss: float
    budget: NanoUSD
    before: float | None = None
    visit: NanoUSD = NanoUSD(0)
    share: float = 0.0

    def in_reach(self, told: "TrialTold", whole: NanoUSD) -> bool:
        """Whether a trial meets the loss in a whole training, if it learns HOPE times as fast as so
        far: rates rise at first, and a loss falls ever more slowly after that."""
        if self.before is None:
            return True
        gain = HOPE * (self.before - told.loss)
        return gain * whole >= (self.before - self.loss) * told.cost


Goal = LeastLoss | TargetLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """first: dollars of a trial until the first rung. eta: one of so many goes on, at so many times
    the dollars. rungs: how many there are."""

    first: NanoUSD
    eta: int = 3
    rungs: int = 4

    def __post_init__(self) -> None:
        if self.first < 1 or self.eta < 2 or self.rungs < 1:
            raise ValueError(
                f"a ladder has rungs from {self.first} nano-USD by {self.eta}, {self.rungs} of "
                "them, expected 1 or more, 2 or more, 1 or more"
            )

    def at(self, rung: int) -> NanoUSD:
        return NanoUSD(self.first * self.eta**rung)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAsk:
    """Train this trial on until it has cost `until` altogether, then say its loss."""

    trial: str
    rung: int
    until: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTold:
    """A trial at a rung. loss: on held-out text; not finite where it diverged. cost: of the trial
    altogether. reached: what it had cost when it met the target loss, None if it did not.
    failed: why it cannot go on, None if it can."""

    trial: str
    rung: int
    loss: float
    cost: NanoUSD
    reached: NanoUSD | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialsAnswer:
    """best: None when no trial has a finite loss. stopped: why nothing more is asked, empty while
    something is."""

    best: str | None
    loss: float
    cost: NanoUSD
    reached: NanoUSD | None
    spent: NanoUSD
    stopped: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The trials, what was asked and what was told. names: first the one to be made in any case;
    seed: order in which the others begin."""

    names: tuple[str, ...]
    ladder: Ladder
    goal: Goal
    seed: int
    told: tuple[TrialTold, ...] = ()
    running: tuple[TrialAsk, ...] = ()

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"trials are {self.names}, expected one or more, each name once")

    @property
    def spent(self) -> NanoUSD:
        """What all trials have cost."""
        dearest: dict[str, int] = {}
        for one in self.told:
            dearest[one.trial] = max(dearest.get(one.trial, 0), one.cost)
        return NanoUSD(sum(dearest.values()))

    def ask(self) -> "tuple[Trials, TrialAsk | None]":
        """The next training, or None: nothing more, or not until something that runs is told."""
        wanted = None if self._ended() else self._affordable()
        if wanted is None:
            return self, None
        return replace(self, running=(*self.running, wanted)), wanted

    def tell(self, told: TrialTold) -> "Trials":
        """Raises ValueError for what was not asked."""
        asked = [one for one in self.running if (one.trial, one.rung) == (told.trial, told.rung)]
        if not asked:
            raise ValueError(
                f"trial {told.trial!r} was told at rung {told.rung}, which was not asked; "
                "tell what ask returned, once"
            )
        rest = tuple(one for one in self.running if one is not asked[0])
        return replace(self, told=(*self.told, told), running=rest)

    def answer(self) -> TrialsAnswer:
        """The best by where each trial stands now: what it was before it grew worse is gone."""
        latest = {one.trial: one for one in self.told}
        good = [one for one in latest.values() if math.isfinite(one.loss)]
        best = min(good, key=self._merit, default=None)
        return TrialsAnswer(
            best=best.trial if best else None,
            loss=best.loss if best else math.inf,
            cost=best.cost if best else NanoUSD(0),
            reached=best.reached if best else None,
            spent=self.spent,
            stopped=self._stopped(),
        )

    def _merit(self, told: TrialTold) -> tuple[float, float, str]:
        reached = told.reached if isinstance(self.goal, TargetLoss) else None
        return (math.inf if reached is None else reached, told.loss, told.trial)

    def _wanted(self) -> TrialAsk | None:
        """The highest rung that has a trial to go on; else a trial that has not begun; else one to
        be trained whole."""
        for rung in reversed(range(self.ladder.rungs - 1)):
            for trial in self._promotable(rung):
                return self._to(trial, rung + 1)
        begun = {one.trial for one in self.told} | {one.trial for one in self.running}
        order = np.random.default_rng(self.seed).permutation(len(self.names))
        for name in (self.names[int(number)] for number in (0, *order)):
            if name not in begun:
                return self._to(name, 0)
        one = self._finalist()
        return None if one is None else self._to(one, self.ladder.rungs - 1)

    def _to(self, trial: str, rung: int) -> TrialAsk:
        """Train to a rung; not beyond what the target is known to be reached for."""
        until = min([self.ladder.at(rung), *self._reached()])
        return TrialAsk(trial=trial, rung=rung, until=NanoUSD(max(1, until)))

    def _affordable(self) -> TrialAsk | None:
        """What is wanted, if money is kept for whom it is to be kept for; or else these. What is
        left at the end goes to the one nearest to the target."""
        wanted, left = self._wanted(), self.goal.budget - self._committed()
        hopes, free = self._hopes(), left
        for trial in hopes:
            if wanted is not None and wanted.trial == trial:
                break
            need = self._to_end(trial)
            if MOST_OF_WAY * need > free:
                continue
            if wanted is None or self._dollars(wanted) > free - need:
                return self._next(trial, left)
            free -= need
        if wanted is not None and self._dollars(wanted) <= left:
            return wanted
        return next((ask for one in hopes if (ask := self._next(one, left)) is not None), None)

    def _hopes(self) -> tuple[str, ...]:
        """Whom money is kept for: the first trial while the target is in its reach, and then the
        one of least loss; nobody once the target is met."""
        goal, last = self.goal, self.ladder.rungs - 1
        if not isinstance(goal, TargetLoss) or self._reached():
            return ()
        latest = {one.trial: one for one in self.told}
        live = sorted(
            (
                one
                for one in latest.values()
                if one.rung < last and one.failed is None and math.isfinite(one.loss)
            ),
            key=_loss_first,
        )
        near = [one.trial for one in live if goal.in_reach(one, self.ladder.at(last))]
        first = self.names[0]
        begins = first not in latest and any(one.trial == first for one in self.running)
        own = [first] if begins or first in near else []
        return tuple(dict.fromkeys((*own, *(near or [one.trial for one in live])[:1])))

    def _to_end(self, trial: str) -> int:
        """Dollars of training a trial that was begun to its last rung."""
        asked = [one.rung for one in (*self.told, *self.running) if one.trial == trial]
        rungs = range(max(asked) + 1, self.ladder.rungs)
        return sum(self._dollars(self._to(trial, rung)) for rung in rungs)

    def _next(self, trial: str, left: int) -> TrialAsk | None:
        """A trial's next rung, or as far towards it as the money that is left lasts; None while it
        runs, or for less than a part of the first rung."""
        goal = self.goal
        if any(one.trial == trial for one in self.running) or not isinstance(goal, TargetLoss):
            return None
        rung = max(one.rung for one in self.told if one.trial == trial) + 1
        most = self.ladder.at(rung - 1) + math.floor((left - goal.visit) / (1 + goal.share))
        ask = self._to(trial, rung)
        ask = replace(ask, until=NanoUSD(min(ask.until, most)))
        return ask if self._step(ask) * self.ladder.eta >= self.ladder.first else None

    def _promotable(self, rung: int) -> Sequence[str]:
        """The best of every eta at a rung that are not yet further."""
        here = sorted((one for one in self.told if one.rung == rung), key=_loss_first)
        return [one.trial for one in here[: len(here) // self.ladder.eta] if self._may(one, rung)]

    def _finalist(self) -> str | None:
        """Who is trained whole besides, where too few went so far by themselves."""
        last = self.ladder.rungs - 1
        whole = [one for one in (*self.told, *self.running) if one.rung == last]
        if not last or len(whole) >= self.ladder.eta:
            return None
        here = sorted((one for one in self.told if one.rung == last - 1), key=_loss_first)
        return next((one.trial for one in here if self._may(one, last - 1)), None)

    def _may(self, told: TrialTold, rung: int) -> bool:
        """Whether a trial that is at the rung can go on from it."""
        return (
            all(one.trial != told.trial or one.rung <= rung for one in (*self.told, *self.running))
            and math.isfinite(told.loss)
            and told.failed is None
            and not self._too_dear(rung + 1)
        )

    def _too_dear(self, rung: int) -> bool:
        """Whether the target is known to be reached for less than the rung before this costs."""
        return any(one <= self.ladder.at(rung - 1) for one in self._reached())

    def _reached(self) -> tuple[NanoUSD, ...]:
        """What the target was reached for, where one is sought."""
        if not isinstance(self.goal, TargetLoss):
            return ()
        return tuple(one.reached for one in self.told if one.reached is not None)

    def _step(self, ask: TrialAsk) -> int:
        return ask.until - (self.ladder.at(ask.rung - 1) if ask.rung else 0)

    def _dollars(self, ask: TrialAsk) -> int:
        """Of an ask, what comes besides its steps included."""
        if isinstance(self.goal, LeastLoss):
            return self._step(ask)
        return math.ceil(self._step(ask) * (1 + self.goal.share)) + self.goal.visit

    def _committed(self) -> int:
        return self.spent + sum(self._dollars(one) for one in self.running)

    def _ended(self) -> bool:
        return self.spent >= self.goal.budget

    def _stopped(self) -> str:
        if self.running:
            return ""
        wanted = self._wanted()
        if not self._ended() and self._affordable() is not None:
            return ""
        if wanted is None:
            return "every trial that is worth it has been trained"
        return (
            f"{self.spent} of {self.goal.budget} nano-USD is spent, and the next part of "
            f"trial {wanted.trial!r} costs {self._dollars(wanted)}"
        )


def _loss_first(told: TrialTold) -> tuple[float, str]:
    return (told.loss if math.isfinite(told.loss) else math.inf, told.trial)
