"""The search for a job's training levers, inside the job's own process.

Every trial is a real training; the poor ones are cut short (ASHA). What a trial costs is the device
time of its steps, at one price; all else that the search does is taken off its budget. The log in
the job's folder is the search's memory: a process that is started again goes on after the last
rung in it, and with the checkpoint of the trial that was under way.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from meted.domain.job import AutoTraining, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.checkpoints import CheckpointError
from meted.live.dollars import usd
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, cpu_nanos
from meted.live.training.loop import State
from meted.live.training.search_frame import Load, Setting, begin_search
from meted.live.training.trial_log import Begun, Ended, Rung, Trail, TrialLog, dollars_of, nanos_of
from meted.live.training.trial_run import Limits, Runner, Shifted
from meted.live.training.trial_target import judging_of, level_of, reached_nanos, seek_of
from meted.optimise.trial_looks import LOOKS_SHARE
from meted.optimise.trials import (
    Goal,
    Ladder,
    LeastLoss,
    TargetLoss,
    TrialAsk,
    Trials,
    TrialTold,
)

FOLDER = "trials"
NOMINAL_PRICE = NanoUSD(1_000_000_000)
"""Of a device-hour, where the pool costs nothing: trials must still be compared by their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a search found. spec: to train on with, by the job's name; steps and tokens: of all
    trials but the one that goes on."""

    spec: TrainingSpec
    steps: int
    tokens: int


class Search:
    """One job's search."""

    def __init__(
        self,
        *,
        spec: TrainingSpec,
        auto: AutoTraining,
        dataset: Dataset,
        workdir: Path,
        house: House,
        load: Load,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._spec = spec
        self._auto = auto
        self._dataset = dataset
        self._workdir = workdir
        self._house = house
        self._load = load
        self._wall = wall
        self._log = TrialLog(workdir)
        self._trail = self._log.read()
        self._cpu = cpu_nanos()
        self._before = self._trail.spent
        self._price = auto.price or NOMINAL_PRICE
        self._judging = judging_of(spec, auto, dataset)
        self._runner = Runner(folder=workdir / FOLDER, dataset=self._judging.dataset, load=load)

    def run(self) -> Chosen:
        """Search, or remember what was found. Raises StopOrdered; TrainingError if no trial has a
        loss."""
        begun = self._trail.begun or self._begin()
        ended = self._trail.ended or self._search(begun)
        self._runner.forget()
        shutil.rmtree(self._workdir / FOLDER, ignore_errors=True)
        others = [one for name, one in self._trail.last.items() if name != ended.best]
        spec = replace(
            begun.trials[ended.best],
            patience=self._spec.patience,
            eval_every=self._spec.eval_every,
            checkpoint_every=self._spec.checkpoint_every,
        )
        return Chosen(
            spec=spec,
            steps=sum(one.step for one in others),
            tokens=sum(one.tokens for one in others),
        )

    def _begin(self) -> Begun:
        """Set the search up, and write it down before anything relies on it."""
        setting = Setting(
            auto=self._auto,
            dataset=self._dataset,
            judging=self._judging,
            runner=self._runner,
            house=self._house,
            load=self._load,
            price=self._price,
            spent=self._spent,
            set_aside=self._set_aside,
        )
        begun = begin_search(self._spec, setting, at=self._wall())
        self._log.append(begun)
        self._trail = replace(self._trail, begun=begun)
        return begun

    def _search(self, begun: Begun) -> Ended:
        """Ask and tell until the budget, the time or the trials are at their end."""
        trials = _remembered(begun, self._trail, self._spec.seed)
        why = ""
        while not why:
            left = max(0, begun.budget - self._overhead())
            trials = replace(trials, goal=replace(trials.goal, budget=NanoUSD(left)))
            trials, asked = trials.ask()
            if asked is None and not trials.told:
                why = self._too_little(begun)
            elif asked is None:
                why = trials.answer().stopped + _nearest(trials)
            elif self._late() or (told := self._try(begun, asked)) is None:
                why = f"the deadline of {self._auto.deadline_s:.0f} s has passed"
            else:
                self._log.append(told)
                self._trail = replace(self._trail, rungs=(*self._trail.rungs, told))
                trials = trials.tell(_told(told))
        return self._end(begun, _best(trials), why)

    def _try(self, begun: Begun, ask: TrialAsk) -> Rung | None:
        """Train a trial until its next rung; None if the deadline came first."""
        others = [one for name, one in self._trail.last.items() if name != ask.trial]
        spec = begun.trials[ask.trial]
        steps = sum(one.step for one in others)
        link = Shifted(
            self._house.link,
            steps=steps,
            tokens=sum(one.tokens for one in others),
            total=max(self._total(begun), steps + (spec.steps or 0)),
            level=begun.level,
        )
        limits = Limits(
            nanos=nanos_of(ask.until, begun.price),
            seek=seek_of(begun, self._judging),
            late=self._late,
        )
        known = self._trail.last.get(ask.trial)
        try:
            state = self._runner.run(ask.trial, spec, limits, House(link))
        except (TrainingError, CheckpointError, MemoryError) as error:
            return self._rung(begun, ask, known, failed=str(error) or "memory ran out")
        return None if state is None else self._reached(begun, ask, state)

    def _reached(self, begun: Begun, ask: TrialAsk, state: State) -> Rung:
        loss, seek = (
            state.marks[-1].loss + level_of(state, begun.level),
            seek_of(begun, self._judging),
        )
        reached = None if seek is None else reached_nanos(state, seek)
        return Rung(
            trial=ask.trial,
            rung=ask.rung,
            step=state.step,
            tokens=state.tokens,
            loss=loss if math.isfinite(loss) else None,
            nanos=state.nanos,
            cost=dollars_of(state.nanos, begun.price),
            spent=self._spent(),
            reached=None if reached is None else max(1, dollars_of(reached, begun.price)),
            reached_step=None
            if reached is None
            else next(one.step for one in state.marks if one.nanos >= reached),
            failed=None if math.isfinite(loss) else "the held-out loss is lost",
        )

    def _rung(self, begun: Begun, ask: TrialAsk, known: Rung | None, *, failed: str) -> Rung:
        """A trial that cannot go on; what it used since its last rung is the search's own cost."""
        return Rung(
            trial=ask.trial,
            rung=ask.rung,
            step=known.step if known else 0,
            tokens=known.tokens if known else 0,
            loss=None,
            nanos=known.nanos if known else 0,
            cost=known.cost if known else 0,
            spent=self._spent(),
            failed=failed,
        )

    def _end(self, begun: Begun, best: str | None, why: str) -> Ended:
        """Take the best trial's checkpoint over as the job's own; forget the others."""
        failed = [one for one in self._trail.rungs if one.failed]
        if best is None and failed:
            raise TrainingError(
                f"none of {len(failed)} trials has a loss; the first: {failed[0].failed}"
            )
        if best is None and not self._auto.finish:
            raise TrainingError(f"no trial was made: {why}")
        if best is None:
            # Without money or time for a single rung the job is what was asked for.
            best = next(iter(begun.trials))
        self._promote(best, begun.before)
        ended = Ended(
            best=best, why=why, spent=self._spent(), seconds=max(0.0, self._wall() - begun.at)
        )
        self._log.append(ended)
        self._trail = replace(self._trail, ended=ended)
        return ended

    def _too_little(self, begun: Begun) -> str:
        return (
            f"the search's budget is ${usd(begun.budget)}, of which measuring took "
            f"${usd(self._overhead())}, and a trial's first rung costs ${usd(begun.first)}"
        )

    def _promote(self, best: str, before: float) -> None:
        content = self._runner.checkpoints(best).newest()
        if content is not None:
            # Its marks are of part of the held-out text; the job's own are of all.
            content |= {"marks": [], "best": None, "held_out": {"before": before}}
            CheckpointFolder(self._workdir / "checkpoints").save(content["step"], content)

    def _set_aside(self, nanos: int) -> None:
        self._cpu += nanos

    def _spent(self) -> int:
        """Device time of the search so far, earlier processes included as far as logged."""
        return self._before + cpu_nanos() - self._cpu

    def _overhead(self) -> NanoUSD:
        """What was used for all but the trials' own steps."""
        steps = sum(one.nanos for one in self._trail.last.values())
        return dollars_of(max(0, self._spent() - steps), self._price)

    def _late(self) -> bool:
        begun, deadline = self._trail.begun, self._auto.deadline_s
        return begun is not None and deadline is not None and self._wall() - begun.at > deadline

    def _total(self, begun: Begun) -> int:
        """About how many optimizer steps search and job will make."""
        spec = next(iter(begun.trials.values()))
        per_job = begun.first * begun.eta ** (begun.rungs - 1)
        steps = spec.steps or 1
        return math.ceil(steps * begun.budget / max(1, per_job)) + steps


def _remembered(begun: Begun, trail: Trail, seed: int) -> Trials:
    goal: Goal
    if begun.auto.target_loss is None:
        goal = LeastLoss(budget=NanoUSD(begun.budget))
    else:
        goal = TargetLoss(
            loss=begun.auto.target_loss,
            budget=NanoUSD(begun.budget),
            before=begun.before,
            visit=dollars_of(begun.loading, begun.price),
            share=LOOKS_SHARE,
        )
    return Trials(
        names=tuple(begun.trials),
        ladder=Ladder(first=NanoUSD(begun.first), eta=begun.eta, rungs=begun.rungs),
        goal=goal,
        seed=seed,
        told=tuple(_told(one) for one in trail.rungs),
    )


def _nearest(trials: Trials) -> str:
    """What is to be said besides where a target was sought and not met."""
    answer = trials.answer()
    if isinstance(trials.goal, LeastLoss) or answer.reached is not None:
        return ""
    return (
        f"; no trial met the target of {trials.goal.loss:g}, the nearest came to {answer.loss:.4f}"
    )


def _best(trials: Trials) -> str | None:
    """The best trial that can go on."""
    failed = {one.trial for one in trials.told if one.failed is not None}
    return (
        replace(trials, told=tuple(one for one in trials.told if one.trial not in failed))
        .answer()
        .best
    )


def _told(rung: Rung) -> TrialTold:
    return TrialTold(
        trial=rung.trial,
        rung=rung.rung,
        loss=math.inf if rung.loss is None else rung.loss,
        cost=NanoUSD(rung.cost),
        reached=None if rung.reached is None else NanoUSD(rung.reached),
        failed=rung.failed,
    )
