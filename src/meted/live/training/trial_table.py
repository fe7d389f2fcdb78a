"""A search's trials as rows, and why each was stopped; no torch, for whoever only looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.job import Method, TrainingSpec
from meted.live.training.trial_log import Begun, Rung, Trail, dollars_of, nanos_of

NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A trial. core_seconds and nano_usd: of its steps. to_target_nano_usd: what it had cost at the
    first held-out loss at or below the target."""

    trial: str
    optimizer: str
    rate: float
    method: str
    rank: int | None
    targets: str | None
    batch_tokens: int | None
    steps: int
    of_steps: int
    held_out: float | None
    core_seconds: float
    nano_usd: int
    to_target_nano_usd: int | None
    stopped: str
    best: bool


def rows_of(trail: Trail) -> list[Row]:
    """The trials that were begun: the chosen one, then by how far they came and their loss."""
    begun = trail.begun
    if begun is None:
        return []
    best = trail.ended.best if trail.ended is not None else None
    rows = [
        _row(begun, trail, begun.trials[name], rung, best=name == best)
        for name, rung in trail.last.items()
    ]
    far = {name: one.rung for name, one in trail.last.items()}
    return sorted(
        rows,
        key=lambda one: (
            not one.best,
            -far[one.trial],
            math.inf if one.held_out is None else one.held_out,
        ),
    )


def losers(trail: Trail) -> list[str]:
    """A sentence for each optimizer that was tried and not chosen: its best trial against the
    chosen one at the furthest rung that both reached, where both cost about the same."""
    begun, ended = trail.begun, trail.ended
    if begun is None or ended is None or ended.best not in trail.last:
        return []
    chosen = begun.trials[ended.best].optimizer
    own = {one.rung: one for one in trail.rungs if one.trial == ended.best}
    names = dict.fromkeys(begun.trials[one.trial].optimizer for one in trail.rungs)
    tried = {
        name: [r for r in trail.rungs if begun.trials[r.trial].optimizer == name] for name in names
    }
    return [
        _loser(begun, (name, chosen), own, tried[name], trail.last[ended.best])
        for name in names
        if name != chosen
    ]


def _row(begun: Begun, trail: Trail, spec: TrainingSpec, rung: Rung, *, best: bool) -> Row:
    lora = spec.method is Method.LORA
    return Row(
        trial=rung.trial,
        optimizer=spec.optimizer,
        rate=spec.learning_rate or 0.0,
        method=spec.method,
        rank=spec.lora_rank if lora else None,
        targets=spec.lora_targets if lora else None,
        batch_tokens=spec.batch_tokens,
        steps=rung.step,
        of_steps=spec.steps or 0,
        held_out=rung.loss,
        core_seconds=rung.nanos / NANOS,
        nano_usd=dollars_of(rung.nanos, begun.price),
        to_target_nano_usd=rung.reached,
        stopped=_stopped(begun, trail, rung, best=best),
        best=best,
    )


def _stopped(begun: Begun, trail: Trail, rung: Rung, *, best: bool) -> str:
    if best:
        return "chosen"
    if rung.failed is not None:
        return rung.failed
    if rung.reached_step is not None:
        return f"reached the target at step {rung.reached_step}"
    if rung.step == begun.trials[rung.trial].steps:
        return "came to its end"
    known = [one.reached for one in trail.rungs if one.reached is not None]
    if known and rung.cost >= min(known):
        return "the target was reached for less"
    if rung.rung == begun.rungs - 1:
        return "came to its end"
    here = sorted(_loss(one) for one in trail.rungs if one.rung == rung.rung)
    through = here[: len(here) // begun.eta]
    if through and _loss(rung) > through[-1]:
        return f"rung {rung.rung + 1}: {through[-1]:.4f} or less went on"
    return f"rung {rung.rung + 1}: the search ended"


def _loss(rung: Rung) -> float:
    return math.inf if rung.loss is None else rung.loss


def _loser(
    begun: Begun, names: tuple[str, str], own: dict[int, Rung], tried: Sequence[Rung], won: Rung
) -> str:
    name, chosen = names
    finite = [one for one in tried if one.loss is not None and one.rung in own]
    if not finite:
        return f"{name} loses: no trial has a loss"
    far = max(one.rung for one in finite)
    best = min((one for one in finite if one.rung == far), key=_loss)
    assert best.loss is not None
    against = own[far].loss
    assert against is not None
    if best.loss < against and won.reached is not None:
        return f"{name} loses: {_met(begun, tried)}, {chosen} {_met(begun, [won])}"
    if best.loss < against:
        return (
            f"{name} was better at rung {far + 1} ({best.loss:.4f} against {against:.4f}), but was "
            "trained no further"
        )
    return (
        f"{name} loses: held-out {best.loss:.4f} for {best.nanos / NANOS:.1f} core-seconds, "
        f"{chosen} {against:.4f} for {own[far].nanos / NANOS:.1f}"
    )


def _met(begun: Begun, tried: Sequence[Rung]) -> str:
    """How soon these trials met the target, if they did."""
    reached = [one.reached for one in tried if one.reached is not None]
    if reached:
        nanos = nanos_of(min(reached), begun.price)
        return f"met the target after {nanos / NANOS:.1f} core-seconds"
    far = max(one.nanos for one in tried)
    return f"had not met the target after {far / NANOS:.1f} core-seconds"
