"""Plans a training run: of all layouts on all choices of devices the one to take, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.units import NanoUSD
from meted.policy.training_infeasible import does_not_fit, too_dear, too_fickle, too_slow
from meted.policy.training_plan import TrainingAlternative, TrainingMoney, TrainingPlan
from meted.policy.training_search import Layout, as_seen, layouts
from meted.policy.training_wish import TrainingChoice, TrainingWish
from meted.predict.energy import POWER_DOUBT, READING_POWER
from meted.predict.estimate import Estimate
from meted.predict.training.efficiency import (
    Efficiency,
    doubt_sentence,
    published_efficiency,
)
from meted.predict.training.goodput import (
    MTBF_DEVICE_HOURS,
    FailuresError,
    Goodput,
    goodput,
)
from meted.predict.training.memory import TrainingDoesNotFitError, checkpoint_bytes
from meted.predict.training.step import TrainingStep

ALTERNATIVES = 5
"""Other layouts told, at most; besides, the best of each other choice of devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A layout with the whole run that it makes. others: of the same choice, slower."""

    layout: Layout
    steps: int
    hours: Estimate
    goodput: Goodput
    money: TrainingMoney | None
    others: Sequence[Layout]

    @property
    def dollars(self) -> float:
        return math.inf if self.money is None else float(self.money.expected)


def plan_training(wish: TrainingWish, known: Efficiency | None = None) -> TrainingPlan:
    """The best way to train: on each choice of devices the fastest layout, since all its devices
    are paid for as long as it runs; of the choices that keep the limits the cheapest, or the
    fastest where one of them has no price.

    known: efficiency factors, by default those that published runs teach. Raises InfeasibleError
    (meted.policy.fleet.plan) with the nearest that can be had.
    """
    known = known or published_efficiency()
    runs: list[_Run] = []
    misfits: list[tuple[TrainingChoice, TrainingDoesNotFitError]] = []
    failures: list[tuple[TrainingChoice, FailuresError]] = []
    for choice in wish.choices:
        try:
            runs.append(_run(wish, choice, known))
        except TrainingDoesNotFitError as error:
            misfits.append((choice, error))
        except FailuresError as error:
            failures.append((choice, error))
    if not runs and failures:
        raise too_fickle(failures)
    if not runs:
        raise does_not_fit(wish, misfits, known)
    best = _best(wish, runs)
    too_small = [choice for choice, _ in misfits]
    return _plan(wish, best, [run for run in runs if run is not best], too_small, known)


def _best(wish: TrainingWish, runs: Sequence[_Run]) -> _Run:
    """Raises InfeasibleError if no run keeps the deadline and the budget."""
    deadline, budget = wish.deadline_hours, wish.budget_nano_usd
    quick = [run for run in runs if deadline is None or run.hours.expected <= deadline]
    if not quick:
        assert deadline is not None
        fastest = min(runs, key=lambda run: run.hours.expected)
        raise too_slow(deadline, fastest.layout, fastest.hours)
    if budget is None:
        within = quick
    else:
        priced = [run for run in quick if run.money is not None]
        if not priced:
            raise ValueError(
                f"budget is {budget / 1e9:,.2f} USD but none of the devices has a price, expected "
                "an offer for at least one: give a price file that names it"
            )
        within = [run for run in priced if run.dollars <= budget]
        if not within:
            cheapest = min(priced, key=lambda run: run.dollars)
            raise too_dear(budget, cheapest.layout, cheapest.dollars, deadline)
    if any(run.money is None for run in within):
        return min(within, key=lambda run: run.hours.expected)
    return min(within, key=lambda run: (run.dollars, run.hours.expected))


def _run(wish: TrainingWish, choice: TrainingChoice, known: Efficiency) -> _Run:
    found = layouts(wish, choice, known)
    fastest = found[0]
    steps = math.ceil(wish.tokens / fastest.algorithm.batch_tokens)
    each = known.whole_seconds(fastest.ideal, fastest.kind.name)
    vanish = 0.0 if choice.offer is None else choice.offer.interruptions_per_device_hour
    kept = goodput(
        productive_hours=steps * each.expected / 3600,
        devices=as_seen(choice)[1],
        checkpoint_bytes=checkpoint_bytes(wish.architecture, fastest.algorithm),
        storage_bytes_per_second=wish.storage_bytes_per_second,
        mtbf_device_hours=1 / (1 / MTBF_DEVICE_HOURS + vanish),
    )
    hours = each.through(lambda seconds: steps * seconds / 3600 / kept.productive)
    return _Run(
        layout=fastest,
        steps=steps,
        hours=hours,
        goodput=kept,
        money=_money(choice, hours),
        others=found[1:],
    )


def _money(choice: TrainingChoice, hours: Estimate) -> TrainingMoney | None:
    """Rent of whole nodes of the offer for the hours."""
    if choice.offer is None:
        return None
    low, expected, high = (
        _nano_usd(choice, value) for value in (hours.low, hours.expected, hours.high)
    )
    return TrainingMoney(low=low, expected=expected, high=high)


def _nano_usd(choice: TrainingChoice, hours: float) -> NanoUSD:
    assert choice.offer is not None
    together = choice.offer.devices
    devices = math.ceil(choice.devices / together) * together
    return NanoUSD(round(choice.offer.nano_usd_per_device_hour * devices * hours))


def _plan(
    wish: TrainingWish,
    best: _Run,
    lost: Sequence[_Run],
    too_small: Sequence[TrainingChoice],
    known: Efficiency,
) -> TrainingPlan:
    layout = best.layout
    kind = layout.kind.name
    seconds = known.step_seconds(layout.ideal, kind)
    able = layout.ideal.model_flops / (layout.ideal.devices * layout.ideal.peak_flops)
    return TrainingPlan(
        wish=wish,
        choice=layout.choice,
        algorithm=layout.algorithm,
        hours=best.hours,
        money=best.money,
        memory=layout.memory,
        memory_room=layout.memory_room,
        step=layout.step,
        step_seconds=seconds,
        mfu=Estimate(
            low=able / seconds.high,
            expected=able / seconds.expected,
            high=able / seconds.low,
            level=seconds.level,
        ),
        steps=best.steps,
        goodput=best.goodput,
        model_flops=layout.ideal.model_flops * best.steps,
        kilowatt_hours=_energy(layout, best.hours),
        alternatives=(*_choices_that_lose(wish, best, lost), *_layouts_that_lose(best)),
        binding=_binding(wish, best, too_small),
        doubt=doubt_sentence(best.hours, kind, known, experts=layout.ideal.experts > 0),
        layouts_tried=1 + len(best.others) + sum(1 + len(run.others) for run in lost),
    )


def _energy(layout: Layout, hours: Estimate) -> Estimate:
    """Kilowatt-hours of all devices: full swing in arithmetic, `READING_POWER` of it in memory and
    on links, idle in bubbles. Hosts, switches and cooling are not counted."""
    step, kind = layout.step, layout.kind
    waiting = step.bubble / step.seconds
    arithmetic = step.compute / step.seconds
    weighed = arithmetic + READING_POWER * (1 - arithmetic - waiting)
    watts = kind.watts_idle + (kind.watts_busy - kind.watts_idle) * weighed
    every = as_seen(layout.choice)[1] * watts / 1000
    reach = math.exp(1.645 * POWER_DOUBT)
    return Estimate(
        low=hours.low * every / reach,
        expected=hours.expected * every,
        high=hours.high * every * reach,
    )


def _choices_that_lose(
    wish: TrainingWish, best: _Run, lost: Sequence[_Run]
) -> list[TrainingAlternative]:
    ranked = sorted(lost, key=lambda run: (run.dollars, run.hours.expected))
    return [
        TrainingAlternative(
            choice=run.layout.choice,
            algorithm=run.layout.algorithm,
            hours=run.hours.expected,
            nano_usd=run.money.expected if run.money else None,
            why=_why_choice(wish, best, run),
        )
        for run in ranked
    ]


def _why_choice(wish: TrainingWish, best: _Run, run: _Run) -> str:
    deadline, budget = wish.deadline_hours, wish.budget_nano_usd
    if deadline is not None and run.hours.expected > deadline:
        return f"{run.hours.expected - deadline:,.1f} h past the deadline"
    if budget is not None and run.money is None:
        return "no price is known, so that no budget can be held"
    if budget is not None and run.dollars > budget:
        return f"{(run.dollars - budget) / 1e9:,.2f} USD over the budget"
    if best.money is None or run.money is None:
        return f"takes {run.hours.expected / best.hours.expected:.2f} times as long"
    dearer = run.dollars / best.dollars - 1 if best.dollars else 0.0
    return f"{dearer:.1%} dearer" if dearer > 0 else "no cheaper, and slower"


def _layouts_that_lose(best: _Run) -> list[TrainingAlternative]:
    """The best of the other ways of parallelism, with what takes longer in them."""
    told: list[TrainingAlternative] = []
    parallel = {best.layout.algorithm.parallelism}
    for one in best.others:
        if one.algorithm.parallelism in parallel:
            continue
        parallel.add(one.algorithm.parallelism)
        slower = one.step.seconds / best.layout.step.seconds
        hours = best.hours.expected * slower
        told.append(
            TrainingAlternative(
                choice=one.choice,
                algorithm=one.algorithm,
                hours=hours,
                nano_usd=None if best.money is None else _nano_usd(one.choice, hours),
                why=f"{slower - 1:.1%} slower: {_grown(best.layout.step, one.step)}",
            )
        )
        if len(told) == ALTERNATIVES:
            break
    return told


PART_WORDS = {
    "compute": "arithmetic",
    "memory": "memory traffic of activations and weights",
    "tensor": "all-reduces of tensor parallelism",
    "experts": "all-to-all of experts",
    "pipeline": "messages between stages",
    "bubble": "bubbles of the pipeline",
    "reduce": "gradients and gathered weights between copies",
    "optimizer": "the optimizer's pass over its state",
}


def _grown(best: TrainingStep, other: TrainingStep) -> str:
    """The part of a step that grew most."""
    before, after = best.parts, other.parts
    name = max(after, key=lambda part: after[part] - before[part])
    if after[name] <= before[name]:
        return "equal but for its memory"
    return f"{PART_WORDS[name]} take {after[name] - before[name]:.2g} s of a step more"


def _binding(wish: TrainingWish, best: _Run, too_small: Sequence[TrainingChoice]) -> str:
    """What holds time and price up."""
    step = best.layout.step
    name = max(step.parts, key=lambda part: step.parts[part])
    said = f"A step is bound by {PART_WORDS[name]}, {step.parts[name] / step.seconds:.0%} of it"
    filled = best.layout.memory.total / best.layout.memory_room
    said += f"; memory is filled to {filled:.0%} of its room"
    used, held = best.layout.algorithm.parallelism.devices, as_seen(best.layout.choice)[1]
    if used < held:
        said += f"; {held - used} of {held} devices stay idle, for no layout uses them"
    if wish.deadline_hours is not None and best.hours.high > wish.deadline_hours:
        said += "; the deadline holds for the expected run, not for the interval's slow end"
    if (
        wish.budget_nano_usd is not None
        and best.money is not None
        and best.money.high > wish.budget_nano_usd
    ):
        said += "; the budget holds for the expected run, not for the interval's dear end"
    for choice in too_small:
        said += f"; {choice} cannot hold it"
    return said + "."
