"""The plots of a simulation: who used which device when, money over time, and what was felt."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meted.cli.report_plots import COLOURS, OTHERS, Plot
from meted.domain.pool import Pool
from meted.domain.units import MICROS_PER_SECOND, NANOS_PER_SECOND, SECONDS_PER_HOUR
from meted.sim.measures import BUSY, jcts, tpots, ttfts
from meted.sim.result import Result, Segment, Use

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
USES: Mapping[Use, str] = {
    Use.SERVING: COLOURS["request"],
    Use.READY: "#9fb4cc",
    Use.LOADING: COLOURS["loading"],
    Use.TRAINING: COLOURS["training"],
    Use.RESTARTING: "#8c6d4f",
    Use.LOST: COLOURS["lost"],
    Use.IDLE: COLOURS["idle"],
    Use.PARKED: "#eceff3",
    Use.GONE: "#f0d3cf",
}
ALL_BARS = 4_000
"""More bars than this are drawn as pixels, so that the page stays small."""
MOST_ROWS = 64
"""Devices that have a row of their own; of a larger pool the first ones of each kind."""
COLUMNS = 600
"""Parts of the time in which a large pool's uses are counted."""
POINTS = 400


def study_plots(results: Mapping[str, Sequence[Result]], pool: Pool) -> list[Plot]:
    """The plots of the first seed; none for what there is nothing of."""
    firsts = {policy: runs[0] for policy, runs in results.items()}
    made: list[Plot] = []
    for policy, result in firsts.items():
        made.append(_uses(policy, result, pool))
    made.append(Plot(title="Cost over time", height=2.8, draw=lambda axes: _cost(axes, firsts)))
    felt: tuple[tuple[str, str, Callable[[Result], list[float]]], ...] = (
        ("Completion times of jobs", "hours from arrival to end", jcts),
        ("TTFT", "ms from arrival to first token", ttfts),
        ("TPOT", "ms a token", tpots),
    )
    for title, label, of in felt:
        values = {policy: of(result) for policy, result in firsts.items()}
        if any(values.values()):
            made.append(
                Plot(
                    title=title,
                    height=2.8,
                    draw=lambda axes, values=values, label=label: _shares(axes, values, label),
                )
            )
    return made


def _uses(policy: str, result: Result, pool: Pool) -> Plot:
    if len(pool.devices) <= MOST_ROWS:
        return Plot(
            title=f"{policy}: devices by use",
            height=0.9 + 0.1 * len(pool.devices),
            draw=lambda axes: _gantt(axes, result, pool),
        )
    return Plot(
        title=f"{policy}: devices by use",
        height=3.0,
        draw=lambda axes: _stacked(axes, result),
    )


def _gantt(axes: Any, result: Result, pool: Pool) -> None:
    rows = {device.index: row for row, device in enumerate(pool.devices)}
    bars: dict[Use, list[tuple[float, float, int]]] = {}
    for one in merged(result.segments):
        bar = (one.begins / HOUR, (one.ends - one.begins) / HOUR, rows[one.device])
        bars.setdefault(one.use, []).append(bar)
    pixels = sum(map(len, bars.values())) > ALL_BARS
    for use in (one for one in USES if one in bars):
        begins, widths, places = zip(*bars[use], strict=True)
        drawn = axes.barh(
            places, widths, left=begins, height=0.9, color=USES[use], label=use.value, linewidth=0
        )
        if pixels:
            for patch in drawn:
                patch.set_rasterized(True)
    kinds: dict[str, list[int]] = {}
    for device in pool.devices:
        kinds.setdefault(device.kind, []).append(rows[device.index])
    axes.set_yticks([sum(one) / len(one) for one in kinds.values()], list(kinds))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(result.ended, 1) / HOUR)
    _finish(axes)


def _stacked(axes: Any, result: Result) -> None:
    """Devices in each use, where there are too many for a row each."""
    edges = np.linspace(0, max(1, result.ended), COLUMNS + 1)
    used = {use: np.zeros(COLUMNS) for use in USES}
    for one in result.segments:
        first = int(np.searchsorted(edges, one.begins, side="right")) - 1
        last = int(np.searchsorted(edges, one.ends, side="left"))
        begins, ends = edges[first:last], edges[first + 1 : last + 1]
        inside = np.minimum(ends, one.ends) - np.maximum(begins, one.begins)
        used[one.use][first:last] += inside / (edges[1] - edges[0])
    shown = [use for use in USES if used[use].any()]
    axes.stackplot(
        edges[:-1] / HOUR,
        [used[use] for use in shown],
        colors=[USES[use] for use in shown],
        labels=[use.value for use in shown],
        linewidth=0,
    )
    axes.set_ylabel("devices")
    axes.set_xlim(0, max(result.ended, 1) / HOUR)
    _finish(axes)


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """Segments of one device and use that touch, as one, whoever they are of; money is summed."""
    found: list[Segment] = []
    for one in sorted(segments, key=lambda one: (one.device, one.begins)):
        last = found[-1] if found else None
        if (
            last is not None
            and (last.device, last.use, last.ends) == (one.device, one.use, one.begins)
            and last.who == one.who
        ):
            found[-1] = Segment(
                one.device, last.begins, one.ends, one.use, one.who, one.tenant,
                type(one.cost)(last.cost + one.cost),
            )  # fmt: skip
        else:
            found.append(one)
    return found


def _cost(axes: Any, results: Mapping[str, Result]) -> None:
    for number, (policy, result) in enumerate(results.items()):
        colour = OTHERS[number % len(OTHERS)]
        at, spent = spending(result, frozenset(Use))
        axes.plot(at / HOUR, spent / NANOS_PER_SECOND, color=colour, label=policy)
        at, spent = spending(result, BUSY)
        axes.plot(
            at / HOUR,
            spent / NANOS_PER_SECOND,
            color=colour,
            linestyle="--",
            label=f"{policy}, busy",
        )
    axes.set_ylabel("USD")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    _finish(axes)


def spending(
    result: Result, uses: frozenset[Use]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments in micros, and nano-USD spent in these uses up to them; the last is the whole."""
    at = np.linspace(0, max(1, result.ended), POINTS)
    whole = np.zeros(POINTS)
    spent = np.zeros(POINTS)
    # A segment costs evenly along its time; from its end on all of it is spent.
    for one in result.segments:
        if one.use in uses:
            slope = one.cost / (one.ends - one.begins)
            first, last = np.searchsorted(at, (one.begins, one.ends))
            spent[first:last] += slope * (at[first:last] - one.begins)
            if last < POINTS:
                whole[last] += one.cost
    return at, spent + np.cumsum(whole)


def _shares(axes: Any, values: Mapping[str, Sequence[float]], label: str) -> None:
    """Of each policy, the share of values up to each."""
    largest = max(max(one, default=0.0) for one in values.values())
    smallest = min(min(one, default=largest) for one in values.values())
    for number, (policy, some) in enumerate(values.items()):
        if not some:
            continue
        ordered = np.sort(np.asarray(some, dtype=np.float64))
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        every = max(1, len(ordered) // POINTS)
        colour = OTHERS[number % len(OTHERS)]
        kept = np.unique(np.append(np.arange(0, len(ordered), every), len(ordered) - 1))
        axes.step(ordered[kept], 100 * shares[kept], where="post", color=colour, label=policy)
    if smallest > 0 and largest / smallest > 50:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 100)
    axes.set_ylabel("share, %")
    _finish(axes, label)


def _finish(axes: Any, label: str = "hours") -> None:
    axes.set_xlabel(label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, handlelength=1)
