"""How trials of variants are shown: one line a variant, and why each passed or not."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from meted.cli.render import print_table
from meted.predict.estimate import Estimate

if TYPE_CHECKING:
    from meted.live.variants.trials import Trial

MB = 1e6


def plain(trial: "Trial") -> dict[str, Any]:
    """A trial as JSON."""
    from meted.live.checkpoints.lineage import kind_of

    return {**asdict(trial), "kind": kind_of(trial.step)}


def print_trials(trials: "list[Trial]", *, keep: bool) -> None:
    """Print the table, then the reasons, then what can be done next."""
    print_table(
        (
            *("variant", "MB", "nats/token", "more than parent", "KL", "same top", "right of 4"),
            *("verdict", "s"),
        ),
        [_row(one) for one in trials],
        right=("MB", "s"),
    )
    click.echo()
    for one in trials:
        click.echo(f"{one.name}: {_reason(one)}")
    good = [one.name for one in trials if one.registered and one.problem is None]
    if good:
        click.echo(f"serve one: meted deploy {good[-1]}")
    elif not keep:
        click.echo("none was registered; --keep registers rejected ones, too")


def _row(trial: "Trial") -> tuple[Any, ...]:
    quality = trial.quality
    size = None if trial.weight_bytes is None else f"{trial.weight_bytes / MB:.1f}"
    seconds = f"{trial.making_seconds + trial.measuring_seconds:.0f}" if trial.new else None
    if quality is None:
        return trial.name, size, *[None] * 5, _verdict(trial), seconds
    text = quality.text
    return (
        *(trial.name, size, _interval(text.loss, 3), _interval(text.loss_increase, 4, sign=True)),
        *(_interval(text.kl, 4), f"{text.same_top.expected:.1%}"),
        *(_share(quality.accuracy), _verdict(trial), seconds),
    )


def _verdict(trial: "Trial") -> str:
    if trial.quality is None:
        return "not made"
    said = "passed" if trial.quality.passed else "rejected"
    return said if trial.quality.passed or not trial.registered else f"{said}, kept"


def _reason(trial: "Trial") -> str:
    if trial.quality is None:
        return trial.problem or "not measured"
    quality = trial.quality
    said = f"{trial.problem}; {quality.reason}" if trial.problem else quality.reason
    if quality.fine_tune is not None:
        kept = quality.fine_tune
        said += f"; of the fine-tune's gain of {kept.gain:.3f} it gave up {kept.lost:.0%}"
    return said if trial.new else f"made before: {said}"


def _interval(value: Estimate, digits: int, *, sign: bool = False) -> str:
    shown = f"{value.expected:+.{digits}f}" if sign else f"{value.expected:.{digits}f}"
    return f"{shown} ±{value.high - value.expected:.{digits}f}"


def _share(value: Estimate) -> str:
    return f"{value.expected:.0%} [{value.low:.0%}, {value.high:.0%}]"
