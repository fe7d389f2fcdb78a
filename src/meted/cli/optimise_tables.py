"""How trials of variants are shown: one line a variant, and why each passed or not."""

from collections.abc import Sequence
from typing import Any

import click

from meted.cli.render import print_table

MB = 1e6
Trial = dict[str, Any]
"""A trial as JSON, which both a search here and a job's result hold."""


def print_trials(trials: Sequence[Trial], *, keep: bool) -> None:
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
        click.echo(f"{one['name']}: {_reason(one)}")
    good = [one["name"] for one in trials if one["registered"] and one["problem"] is None]
    if good:
        click.echo(f"serve one: meted deploy {good[-1]}")
    elif not keep:
        click.echo("none was registered; --keep registers rejected ones, too")


def _row(trial: Trial) -> tuple[Any, ...]:
    quality, size = trial["quality"], None
    if trial["weight_bytes"] is not None:
        size = f"{trial['weight_bytes'] / MB:.1f}"
    seconds = None
    if trial["new"]:
        seconds = f"{trial['making_seconds'] + trial['measuring_seconds']:.0f}"
    if quality is None:
        return trial["name"], size, *[None] * 5, _verdict(trial), seconds
    text = quality["text"]
    return (
        *(trial["name"], size, _interval(text["loss"], 3)),
        *(_interval(text["loss_increase"], 4, sign=True), _interval(text["kl"], 4)),
        f"{text['same_top']['expected']:.1%}",
        *(_share(quality["accuracy"]), _verdict(trial), seconds),
    )


def _verdict(trial: Trial) -> str:
    quality = trial["quality"]
    if quality is None:
        return "not made"
    said = "passed" if quality["passed"] else "rejected"
    return said if quality["passed"] or not trial["registered"] else f"{said}, kept"


def _reason(trial: Trial) -> str:
    quality, problem = trial["quality"], trial["problem"]
    if quality is None:
        return problem or "not measured"
    said = f"{problem}; {quality['reason']}" if problem else quality["reason"]
    kept = quality["fine_tune"]
    if kept is not None:
        said += f"; of the fine-tune's gain of {kept['gain']:.3f} it gave up {kept['lost']:.0%}"
    return said if trial["new"] else f"made before: {said}"


def _interval(value: dict[str, float], digits: int, *, sign: bool = False) -> str:
    expected, half = value["expected"], value["high"] - value["expected"]
    shown = f"{expected:+.{digits}f}" if sign else f"{expected:.{digits}f}"
    return f"{shown} ±{half:.{digits}f}"


def _share(value: dict[str, float]) -> str:
    return f"{value['expected']:.0%} [{value['low']:.0%}, {value['high']:.0%}]"
