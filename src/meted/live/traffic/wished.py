"""What `--traffic`, `--rate` and `--day` say, as the planner's traffic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from meted.live.dollars import shortened
from meted.live.traffic.errors import TrafficError
from meted.live.traffic.readers import read_trace
from meted.policy.fleet.traffic import (
    Period,
    Traffic,
    steady_traffic,
    traffic_from_arrivals,
)
from meted.predict import queueing
from meted.predict.batching import Arrival
from meted.predict.latency import draw_arrivals

__all__ = ["DAYS", "HOUSE", "TrafficError", "WishedTraffic", "parse_traffic", "recorded_traffic"]

NAMES = ("rate", "input", "output", "cv")
FLAT, OFFICE = "flat", "office"
DAYS: Mapping[str, tuple[tuple[str, float, float], ...]] = MappingProxyType(
    {
        FLAT: (("all day", 24.0, 1.0),),
        # Three levels around a mean of 1: a working day's peak, its shoulders and the night.
        OFFICE: (("peak", 8.0, 1.8), ("shoulder", 6.0, 1.0), ("night", 10.0, 0.36)),
    }
)
"""Hours of a day and load over the mean, by level."""

HOUSE = "house"
"""Instead of a trace: what the house's books recorded."""
SAMPLE = 6_000
LENGTH_CV = 0.8
"""Deviation over mean of lengths, as `steady_traffic` draws them (0.7 of the logarithm)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WishedTraffic:
    """The traffic and a sentence about where it comes from."""

    traffic: Traffic
    told: str


def parse_traffic(
    text: str,
    *,
    rate: float | None = None,
    day: str = FLAT,
    seed: int = 0,
    longest: int | None = None,
) -> WishedTraffic:
    """Traffic from a trace's path, or from numbers: `rate=10,input=1000,output=250[,cv=2]`, or
    `10,1000,250`. rate: requests per second to scale a trace to. day: how load is spread over it.
    longest: context of the model; longer requests are left out, and that is told.

    Raises TrafficError naming the part that is wrong.
    """
    path = Path(text).expanduser()
    if path.is_file():
        arrivals = read_trace(path)
        return _traffic(arrivals, path.name, rate=rate, day=day, longest=longest)
    if "," not in text:
        raise TrafficError(
            f"--traffic {text} is no file and no numbers; expected a trace's path, {HOUSE}, or "
            "rate=10,input=1000,output=250"
        )
    numbers = _numbers(text)
    if rate is not None:
        numbers["rate"] = rate
    if "cv" in numbers:
        stream = queueing.Traffic(
            arrivals_per_second=numbers["rate"],
            prompt_tokens=numbers["input"],
            output_tokens=numbers["output"],
            length_cv=LENGTH_CV,
            arrival_cv=numbers["cv"],
        )
        made = draw_arrivals(stream, SAMPLE, seed=seed)
    else:
        made = steady_traffic(
            arrivals_per_second=numbers["rate"],
            prompt_tokens=numbers["input"],
            output_tokens=numbers["output"],
            seed=seed,
        ).sample
    kept, cut = _within(made, longest)
    bursts = f", gaps with a variation of {numbers['cv']:g}" if "cv" in numbers else ""
    told = (
        f"{numbers['rate']:g} requests/s with about {numbers['input']:g} tokens in and "
        f"{numbers['output']:g} out, lengths varying as in chats{bursts}{cut}"
    )
    traffic = traffic_from_arrivals(kept, arrivals_per_second=numbers["rate"])
    return WishedTraffic(traffic=_over_day(traffic, day), told=told)


def recorded_traffic(
    arrivals: Sequence[Arrival],
    *,
    rate: float | None = None,
    day: str = FLAT,
    longest: int | None = None,
) -> WishedTraffic:
    """The traffic that a house recorded; raises TrafficError if it is less than two requests."""
    if len(arrivals) < 2:
        raise TrafficError(
            f"the house's books hold {len(arrivals)} generating requests, expected two or more; "
            "let clients use it first, or give a trace or numbers"
        )
    return _traffic(arrivals, "the house's books", rate=rate, day=day, longest=longest)


def _traffic(
    arrivals: Sequence[Arrival], source: str, *, rate: float | None, day: str, longest: int | None
) -> WishedTraffic:
    kept, cut = _within(arrivals, longest)
    traffic = traffic_from_arrivals(kept, arrivals_per_second=rate)
    scaled = "" if rate is None else f", scaled to {rate:g} requests/s"
    told = f"{len(arrivals)} recorded requests of {source}{scaled}{cut}"
    return WishedTraffic(traffic=_over_day(traffic, day), told=told)


def _within(arrivals: Sequence[Arrival], longest: int | None) -> tuple[Sequence[Arrival], str]:
    """The requests that a model of that context can answer, and a clause about the others."""
    if longest is None:
        return arrivals, ""
    kept = [one for one in arrivals if one.prompt_tokens + one.output_tokens <= longest]
    missing = len(arrivals) - len(kept)
    if len(kept) < 2:
        raise TrafficError(
            f"{missing} of {len(arrivals)} requests are longer than the model's context of "
            f"{longest} tokens; take a model with a longer one"
        )
    if not missing:
        return kept, ""
    share = missing / len(arrivals)
    return kept, f"; {share:.1%} of them left out, longer than the model's {longest} tokens"


def _numbers(text: str) -> dict[str, float]:
    parts = [part.strip() for part in text.split(",")]
    if not any("=" in part for part in parts):
        if len(parts) != 3:
            raise TrafficError(
                f"--traffic {text} has {len(parts)} numbers, expected three: requests per second, "
                "tokens in, tokens out"
            )
        parts = [f"{name}={part}" for name, part in zip(NAMES[:3], parts, strict=True)]
    found: dict[str, float] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in NAMES or name in found:
            raise TrafficError(
                f"--traffic names {shortened(name)}, expected each of rate, input and output once, "
                "and cv if arrivals come in bursts"
            )
        try:
            found[name] = float(value)
        except ValueError:
            raise TrafficError(f"{name} is {shortened(value)}, expected a number") from None
        if not (math.isfinite(found[name]) and found[name] > 0):
            raise TrafficError(f"{name} is {value}, expected a number above 0")
    missing = [name for name in NAMES[:3] if name not in found]
    if missing:
        raise TrafficError(f"--traffic lacks {missing[0]}; write rate=10,input=1000,output=250")
    for name in ("input", "output"):
        if found[name] < 1:
            raise TrafficError(f"{name} is {found[name]:g} tokens, expected 1 or more")
    return found


def _over_day(traffic: Traffic, day: str) -> Traffic:
    """The traffic with its one period spread over levels of a day; as it is if it has its own."""
    if day not in DAYS:
        raise TrafficError(f"the day is {day!r}, expected {' or '.join(DAYS)}")
    levels = DAYS[day]
    if len(levels) == 1 or len(traffic.periods) > 1:
        return traffic
    periods: list[Period] = []
    for name, hours, load in levels:
        for whole in traffic.scaled(load).periods:
            share = whole.hours_per_month * hours / 24
            periods.append(replace(whole, name=name, hours_per_month=share))
    return Traffic(periods=tuple(periods), sample=traffic.sample)
