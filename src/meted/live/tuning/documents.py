"""The answer of a search of serving, JSON-ready: what a job keeps, a page shows, a table prints."""

from dataclasses import asdict, fields
from typing import Any

import msgspec

from meted.domain.configuration import Configuration
from meted.domain.deployment import SLO
from meted.domain.engine_settings import EngineSettings
from meted.live.lever_doors import FrontPoint
from meted.live.tuning.searching import Found
from meted.live.tuning.session import Prepared
from meted.optimise.pareto import Point, front


def points(prepared: Prepared, found: Found) -> list[Point]:
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


def document(prepared: Prepared, found: Found, slo: SLO) -> dict[str, Any]:
    """All of it. Amounts are nano-USD where they are not dollars per million tokens."""
    measured = points(prepared, found)
    members = front(measured).members
    cost = {one.key: one.cost for one in found.answer.feasible}
    return {
        "chosen": None if found.chosen is None else plain(found.chosen),
        "chosen_key": None if found.chosen is None else str(found.chosen),
        "default": str(prepared.default),
        "slo": {"ttft_p95_ms": slo.ttft_p95 / 1000, "tpot_p95_ms": slo.tpot_p95 / 1000},
        "points": [
            {
                "key": one.key,
                "usd_per_million": one.dollars,
                "usd_per_million_low": cost[one.key].low,
                "usd_per_million_high": cost[one.key].high,
                "ttft_p95_ms": one.latency * 1e3,
                "loss": one.loss,
                "front": one.key in members,
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
        "disturbed": found.disturbed,
    }


def front_points(found: dict[str, Any]) -> tuple[FrontPoint, ...]:
    """A document's measured points as a house's page shows them, with why each was rejected."""
    why = {one["key"]: one["reason"] for one in found["rejected"]}
    return tuple(
        FrontPoint(
            key=one["key"],
            usd_per_million=one["usd_per_million"],
            ttft_p95_ms=one["ttft_p95_ms"],
            loss=one["loss"],
            chosen=one["key"] == found["chosen_key"],
            rejected=why.get(one["key"]),
        )
        for one in found["points"]
    )


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
