"""What a search knows before its first trial: the loss of the base, its pace, rates, a ladder."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from meted.domain.job import AutoTraining, Method, RateFinder, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.training.data import Dataset
from meted.live.training.house import House, cpu_nanos
from meted.live.training.loop import Loop, rows_per_step, total_steps
from meted.live.training.model import Trainee
from meted.live.training.optimizers import OPTIMIZERS
from meted.live.training.range_test import find_rate, pace, tokens_of_test, trusted
from meted.live.training.trial_log import Begun, dollars_of
from meted.live.training.trial_run import Runner
from meted.live.training.trial_target import Judging
from meted.live.training.variations import Size, resolved, variations
from meted.optimise.trial_looks import FORWARD, LOOKS_SHARE
from meted.optimise.trials import Ladder

JOBS_WORTH = 2
"""Without a budget of its own a search may use so many times what the job itself will."""
ETA = 3
MOST_RUNGS = 4
LEAST_STEPS, LEAST_WORTH = 2, 2
"""Of a trial until its first rung: steps, and its dollars over those of loading and judging."""
RANGE_ROWS = 1
MOST_OF_BUDGET = 0.1
"""A range test that takes more of the search's budget is left out."""
PROXY_LAYERS = 0.3
ADAPTIVE = frozenset({"adam", "adamw", "adamw8bit", "nadam", "radam", "muon", "lion"})
"""Optimizers whose steps do not grow with the gradient: what a range test says of one holds, as a
factor on the usual rate, for the others. Muon's step is scaled to AdamW's."""

Rates = dict[tuple[Method, str], float]
Load = Callable[..., Trainee]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a search takes place. judging: what trials are judged by. price: nano-USD per
    device-hour. spent: device time of the search so far, without what is set aside, because the job
    needs it anyway."""

    auto: AutoTraining
    dataset: Dataset
    judging: Judging
    runner: Runner
    house: House
    load: Load
    price: NanoUSD
    spent: Callable[[], int]
    set_aside: Callable[[int], None]


def begin_search(spec: TrainingSpec, setting: Setting, *, at: float) -> Begun:
    """Measure, and set the ladder and the trials up. at: seconds since 1970."""
    auto, price, rows = setting.auto, setting.price, len(setting.dataset.train)
    size = Size(train_tokens=setting.dataset.train.size, steps=total_steps(spec, rows))
    usual = usual_rates()
    plain = resolved(spec, usual, size)
    idle = cpu_nanos()
    trainee = setting.runner.trainee(plain)
    loading = cpu_nanos() - idle
    before = _base_loss(plain, trainee, setting.dataset, setting)
    setting.set_aside(cpu_nanos() - idle)
    judged, level = setting.judging.dataset, 0.0
    if len(judged.held_out) < len(setting.dataset.held_out):
        level = before - _base_loss(plain, trainee, judged, setting)
    nanos_per_token = pace(trainee, plain, judged.train[: spec.micro_batch], setting.house)
    per_step = rows_per_step(plain, rows) * spec.sequence_tokens
    job = NanoUSD(max(1, dollars_of(round(nanos_per_token * per_step * size.steps), price)))
    look = round(nanos_per_token * FORWARD * judged.held_out.size)
    visit = dollars_of(loading + look, price)
    # Where a target is sought, a rung's look is one of those that have a share of the training.
    least = (
        0 if auto.target_loss is None else dollars_of(round(look / setting.judging.share), price)
    )
    ladder = ladder_of(job, size.steps, visit, NanoUSD(least))
    budget = auto.budget or NanoUSD(JOBS_WORTH * job)
    share = dollars_of(round(nanos_per_token * tokens_of_test(RANGE_ROWS, spec)), price) / budget
    middle, said = _middle(plain, usual, per_step, share, setting)
    left = budget - dollars_of(setting.spent(), price)
    worth = affordable(ladder, left, visit)
    if auto.target_loss is not None:
        worth = beginnable(ladder, left, dollars_of(loading, price))
    return Begun(
        at=at,
        price=price,
        budget=budget,
        first=ladder.first,
        eta=ladder.eta,
        rungs=ladder.rungs,
        rows=len(judged.held_out),
        before=before,
        level=level,
        loading=loading,
        look=look,
        rate=said,
        nanos=setting.spent(),
        auto=auto,
        trials=variations(
            spec,
            plain=plain,
            levers=auto.levers,
            count=max(1, min(auto.trials, worth)),
            middle=middle,
            size=size,
        ),
    )


def usual_rates() -> Rates:
    """The recipes' learning rates."""
    return {
        (method, name): recipe.lora if method is Method.LORA else recipe.full
        for name, recipe in OPTIMIZERS.items()
        for method in Method
    }


def ladder_of(job: NanoUSD, steps: int, visit: NanoUSD, least: NanoUSD = NanoUSD(0)) -> Ladder:
    """The last rung is the whole job; the first has LEAST_STEPS steps or more and costs
    LEAST_WORTH times as much as loading and judging there (visit), or more, and not below least."""
    rungs = 1
    while (
        rungs < MOST_RUNGS
        and steps >= LEAST_STEPS * ETA**rungs
        and job >= max(LEAST_WORTH * visit, least) * ETA**rungs
    ):
        rungs += 1
    return Ladder(first=NanoUSD(max(1, job // ETA ** (rungs - 1))), eta=ETA, rungs=rungs)


def affordable(ladder: Ladder, left: int, visit: NanoUSD) -> int:
    """How many trials these dollars can begin, when one of `eta` goes on from each rung and `eta`
    to the last or more. visit: of loading and judging at each rung."""
    each, share, before = 0.0, 1.0, 0
    for rung in range(ladder.rungs - 1):
        each += share * (ladder.at(rung) - before + visit)
        share, before = share / ladder.eta, ladder.at(rung)
    last = ladder.at(ladder.rungs - 1) - before + visit
    if ladder.rungs == 1:
        return int(left / last)
    few = int((left - ladder.eta * last) / each)
    return min(few, int(left / (each + share * last))) if few > 0 else 1


def beginnable(ladder: Ladder, left: int, loading: NanoUSD) -> int:
    """How many trials these dollars can begin on the way to a target: which of them go on is seen
    then, and what is kept for that. loading: of each, its looks besides."""
    return int(left / (ladder.first * (1 + LOOKS_SHARE) + loading))


def _base_loss(plain: TrainingSpec, trainee: Trainee, dataset: Dataset, setting: Setting) -> float:
    """The base's loss on the dataset's held-out text."""
    loop = Loop(
        spec=plain,
        dataset=dataset,
        trainee=trainee,
        checkpoints=setting.runner.checkpoints("base"),
        house=setting.house,
    )
    return loop.evaluate("before" if dataset is setting.dataset else "judged")


def _middle(
    plain: TrainingSpec, usual: Rates, per_step: int, share: float, setting: Setting
) -> tuple[Rates, str]:
    """The rates that trials lie around, and how they were found. share: of the budget that a range
    test on the network takes."""
    auto, own = setting.auto, usual[(plain.method, plain.optimizer)]
    if auto.finder is RateFinder.RECIPE or "rate" not in auto.levers:
        return usual, f"usual rate {own:.3g}"
    if share > MOST_OF_BUDGET:
        return usual, f"usual rate {own:.3g}; a range test would take {share:.0%} of the budget"
    if auto.finder is RateFinder.PROXY:
        setting.runner.forget()
        trainee = setting.load(plain, layers=PROXY_LAYERS)
    else:
        trainee = setting.runner.trainee(plain)
    found = find_rate(
        trainee,
        replace(plain, auto=auto),
        setting.dataset.train[:RANGE_ROWS],
        usual=own,
        batch_rows=per_step // plain.sequence_tokens,
        house=setting.house,
        durable=lambda: 0,
    )
    if found.rate is None:
        return usual, found.said
    factor = trusted(found.rate.expected, own)
    moved = {
        (method, name): rate * factor
        for (method, name), rate in usual.items()
        if method is plain.method
        and (name == plain.optimizer or {name, plain.optimizer} <= ADAPTIVE)
    }
    return {**usual, **moved}, found.said
