"""The answer of a search of serving: table, YAML, JSON."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import yaml

from meted.cli.render import print_table
from meted.domain.configuration import Configuration
from meted.domain.deployment import SLO
from meted.domain.engine_settings import EngineSettings
from meted.domain.units import NANOS_PER_SECOND
from meted.optimise.pareto import Front, Point, front

if TYPE_CHECKING:
    from meted.live.tuning.searching import Found
    from meted.live.tuning.session import Prepared


def points(prepared: "Prepared", found: "Found") -> list[Point]:
    """What was measured and is feasible: dollars, TTFT and loss of each."""
    ttft: dict[str, float] = {}
    for one in found.evidence:
        if one.ttft_p95_s is not None:
            ttft[one.key] = max(one.ttft_p95_s, ttft.get(one.key, 0.0))
    loss = {str(one): prepared.loss[one.checkpoint] for one in prepared.configurations}
    return [
        Point(key=one.key, dollars=one.cost.expected, latency=ttft[one.key], loss=loss[one.key])
        for one in found.answer.feasible
        if one.key in ttft
    ]


def print_found(prepared: "Prepared", found: "Found", slo: SLO, out: Path | None) -> None:
    """The front, what was rejected and why, and the chosen configuration."""
    measured = points(prepared, found)
    members = front(measured).members
    cost = {one.key: one.cost for one in found.answer.feasible}
    print_table(
        ("configuration", "$ per million", "90 % interval", "TTFT p95 ms", "loss +", "front"),
        [
            (
                *(one.key, f"{one.dollars:.5f}"),
                f"{cost[one.key].low:.5f} to {cost[one.key].high:.5f}",
                *(f"{one.latency * 1e3:.0f}", f"{one.loss:+.4f}"),
                "yes" if one.key in members else "",
            )
            for one in measured
        ],
        right=("$ per million", "TTFT p95 ms", "loss +"),
    )
    click.echo("\nrejected:")
    for one in found.answer.rejected:
        click.echo(f"  {one.key}: {one.reason}")
    answer = found.answer
    dollars = answer.dollars / NANOS_PER_SECOND
    click.echo(
        f"\nspent {answer.effort:.2f} full measurements, ${dollars:.6f}; stopped: {answer.stopped}"
    )
    if found.chosen is None:
        click.echo("nothing keeps the SLO; loosen it, lower the rate, or add cores")
        return
    click.echo(f"chosen: {found.chosen}{_against_default(prepared, found)}\n")
    click.echo(f"written to {out}" if out else yaml_of(found.chosen, slo))


def _against_default(prepared: "Prepared", found: "Found") -> str:
    cost = {one.key: one.cost.expected for one in found.answer.feasible}
    default = cost.get(str(prepared.default))
    if default is None or found.chosen is None or found.chosen == prepared.default:
        return ""
    return f", {1 - cost[str(found.chosen)] / default:.1%} below the default (${default:.5f})"


def document(prepared: "Prepared", found: "Found") -> dict[str, Any]:
    """All of it, for --json."""
    measured = points(prepared, found)
    line: Front = front(measured)
    return {
        "chosen": None if found.chosen is None else plain(found.chosen),
        "default": str(prepared.default),
        "points": [
            {
                "key": one.key,
                "usd_per_million": one.dollars,
                "ttft_p95_ms": one.latency * 1e3,
                "loss": one.loss,
                "front": one.key in line.members,
            }
            for one in measured
        ],
        "feasible": [asdict(one) for one in found.answer.feasible],
        "rejected": [asdict(one) for one in found.answer.rejected],
        "evidence": [asdict(one) for one in found.evidence],
        "effort": found.answer.effort,
        "nano_usd": found.answer.dollars,
        "sure": found.answer.sure,
        "stopped": found.answer.stopped,
    }


def shown(prepared: "Prepared", found: "Found") -> list[dict[str, Any]]:
    """What was measured, as a house's page shows it: each point, and why it was rejected."""
    why = {one.key: one.reason for one in found.answer.rejected}
    return [
        {
            "key": one.key,
            "usd_per_million": one.dollars,
            "ttft_p95_ms": one.latency * 1e3,
            "loss": one.loss,
            "chosen": one.key == str(found.chosen),
            "rejected": why.get(one.key),
        }
        for one in points(prepared, found)
    ]


def plain(one: Configuration) -> dict[str, Any]:
    """A deployment's part of a configuration file: what differs from the defaults."""
    default = EngineSettings()
    settings = {
        field.name: msgspec.to_builtins(getattr(one.settings, field.name))
        for field in fields(EngineSettings)
        if getattr(one.settings, field.name) != getattr(default, field.name)
    }
    found: dict[str, Any] = {"checkpoint": one.checkpoint, "max_batch": one.max_batch}
    return {**found, "settings": settings} if settings else found


def yaml_of(one: Configuration, slo: SLO) -> str:
    """A configuration file that serves it under its checkpoint's name."""
    entry = {
        "name": one.checkpoint,
        **plain(one),
        "slo": {"ttft_p95_ms": slo.ttft_p95 / 1000, "tpot_p95_ms": slo.tpot_p95 / 1000},
    }
    return yaml.safe_dump({"deployments": [entry]}, sort_keys=False)
