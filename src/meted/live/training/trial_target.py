"""A trial on its way to a target loss: when it is judged, by how much text, and what confirms it.

Trials are judged by a part of the held-out text. Where that meets the target, the rest of the text
is read once: the loss on all of it is what counts, and says for the rest of the trial how much
higher all lies than the part.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from meted.domain.job import AutoTraining, TrainingPhase, TrainingSpec
from meted.live.training.data import Dataset, Ids
from meted.live.training.house import House, cpu_nanos
from meted.live.training.loop import Loop, State, rows_per_step, total_steps
from meted.live.training.model import Trainee
from meted.live.training.trial_log import Begun, nanos_of
from meted.live.wire import Evaluated
from meted.optimise.trial_looks import LOOKS_SHARE, LookPlan, Seen, crossing, look_size

JUDGED_TOKENS = 2048
"""Held-out text of a trial's rung: the same rows for all, so that differences are the levers'."""
CONFIRMED = "confirmed"
"""When the loss on all of the held-out text is measured, for the house."""
_LEVEL = "level"
"""Under which a trial's state, and so its checkpoint, keeps what confirming found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What trials are judged by. dataset: the job's, with these rows as its held-out text; rest:
    the other rows, if they confirm a target; share: of training that looks may cost besides."""

    dataset: Dataset
    rest: Ids | None
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seek:
    """The way to a target loss. before: of the base, on all of the text. level: what all of the
    text's loss is taken to lie above that of the judged rows, unless confirming tells otherwise.
    plan: in device-nanoseconds of steps. judged: rows at each look; rest: those that confirm."""

    loss: float
    before: float
    level: float
    plan: LookPlan
    judged: int
    rest: Ids | None


def judging_of(spec: TrainingSpec, auto: AutoTraining, dataset: Dataset) -> Judging:
    """Rows from all over the text; with a target so few that looks are cheap beside a training."""
    held_out, tokens = dataset.held_out, JUDGED_TOKENS
    share, confirmed = LOOKS_SHARE, False
    if auto.target_loss is not None:
        rows = len(dataset.train)
        trained = total_steps(spec, rows) * rows_per_step(spec, rows) * spec.sequence_tokens
        size = look_size(held_out=held_out.size, job=trained, most=JUDGED_TOKENS)
        tokens, share, confirmed = size.tokens, size.share, size.confirmed
    count = min(len(held_out), max(1, tokens // spec.sequence_tokens))
    judged = np.arange(count) * len(held_out) // count
    others = np.delete(held_out, judged, axis=0)
    return Judging(
        dataset=replace(dataset, held_out=held_out[judged]),
        rest=others if confirmed and len(others) else None,
        share=share,
    )


def seek_of(begun: Begun, judging: Judging) -> Seek | None:
    """None where the least loss is sought."""
    if begun.auto.target_loss is None:
        return None
    whole = begun.first * begun.eta ** (begun.rungs - 1)
    return Seek(
        loss=begun.auto.target_loss,
        before=begun.before,
        level=begun.level,
        plan=LookPlan(look=begun.look, share=judging.share, whole=nanos_of(whole, begun.price)),
        judged=begun.rows,
        rest=judging.rest,
    )


def seen(state: State, seek: Seek) -> list[Seen]:
    """The base's loss and all that were measured since, on the level of all held-out text."""
    level = level_of(state, seek.level)
    return [Seen(0, seek.before), *(Seen(one.nanos, one.loss + level) for one in state.marks)]


def level_of(state: State, level: float) -> float:
    """What a trial's losses lie below those on all of the text."""
    return state.held_out.get(_LEVEL, level)


def reached_nanos(state: State, seek: Seek) -> int | None:
    """Device time of the steps until the target was met, read off between two looks."""
    found = crossing(seen(state, seek), seek.loss) if state.marks else None
    return None if found is None else max(1, round(found))


def look_if_due(loop: Loop, seek: Seek, *, until: int) -> None:
    """Measure the held-out loss, where the plan wants it. until: device time of the steps at which
    the trial halts, if it does not come to its end before."""
    state = loop.state
    if state.step:
        end = state.nanos * loop.total_steps / state.step
        if seek.plan.due(
            trained=state.nanos, until=min(until, end), seen=seen(state, seek), target=seek.loss
        ):
            loop.mark()


def met(loop: Loop, seek: Seek, *, trainee: Trainee, micro_batch: int, house: House) -> bool:
    """Whether the last loss meets the target, confirmed on the rest of the text once."""
    state = loop.state
    if not state.marks or seen(state, seek)[-1].loss > seek.loss:
        return False
    if seek.rest is None or _LEVEL in state.held_out:
        return True
    # After a kill the last loss may be older than the weights.
    judged = loop.mark()
    if judged + seek.level > seek.loss:
        return False
    rest = _loss_on(seek.rest, loop, trainee=trainee, micro_batch=micro_batch, house=house)
    rows = seek.judged + len(seek.rest)
    loss = (judged * seek.judged + rest * len(seek.rest)) / rows
    state.held_out[_LEVEL] = loss - judged
    house.tell(Evaluated(state.step, CONFIRMED, loss, cpu_nanos()))
    house.turn_to(TrainingPhase.TRAIN)
    return judged + state.held_out[_LEVEL] <= seek.loss


def _loss_on(rows: Ids, loop: Loop, *, trainee: Trainee, micro_batch: int, house: House) -> float:
    """Mean loss on these rows; orders are heeded."""
    house.turn_to(TrainingPhase.EVALUATE)
    trainee.train(False)
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), micro_batch):
            micro = rows[start : start + micro_batch]
            total += trainee.loss(micro).item() * len(micro)
            house.heed(loop.make_durable)
    return total / len(rows)
